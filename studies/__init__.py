"""Questions put to the miniature: many workspaces, one answer. `make table`, `make ablations`."""
