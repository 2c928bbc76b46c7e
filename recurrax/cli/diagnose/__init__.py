"""`recurrax diagnose`: a model of any library, what is wrong with it, and what to do."""
