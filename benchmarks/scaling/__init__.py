"""`secure-fair bench scaling`: how time, bytes and memory grow with n, d, K and the number of records."""
