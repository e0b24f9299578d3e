"""Questions put to the miniature: many workspaces, one answer. `make table`, `make ablations`."""

from fmbseg.allocator import keep_memory

keep_memory()
