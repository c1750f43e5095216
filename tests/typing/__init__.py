"""What type checkers say to users; nothing here is run."""
