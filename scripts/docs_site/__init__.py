"""The site of the documentation: its pages, made from docs/, the commands and the errors."""
