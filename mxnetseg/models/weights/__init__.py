"""Weights in and out of networks: initial values, ImageNet weights, and the formats of weight files."""
