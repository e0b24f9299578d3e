"""Steps as Prefect tasks. Each process that runs them, a Dask worker too, sets its allocator."""

from fmbseg.allocator import keep_memory

keep_memory()
