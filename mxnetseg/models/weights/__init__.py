"""Weights in and out of networks: first values, ImageNet weights, and the files of other projects."""
