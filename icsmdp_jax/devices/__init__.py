"""Where computations run: devices, hosts, the cache of compiled programs."""
