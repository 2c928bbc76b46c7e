"""`recurrax reproduce`: published numbers, measured again."""
