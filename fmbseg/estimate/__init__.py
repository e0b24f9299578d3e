"""How long a whole run would take, how much disk and memory, from a small sample of it."""
