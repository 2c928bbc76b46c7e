"""Files and trees as one flat mapping of names to arrays, nothing believed that they say."""
