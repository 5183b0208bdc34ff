"""`secure-fair bench primitives`: single operations, ours and other systems', on the same inputs."""
