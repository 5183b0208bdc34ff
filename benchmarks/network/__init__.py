"""`secure-fair bench network`: the same steps over links of known delay and bandwidth."""
