"""Configuration: the schema of all keys, YAML files with inheritance, and overrides.

>>> from mxnetseg.config import load_config
>>> config = load_config(model="fcn", overrides=["train.epochs=3"])
>>> config.train.epochs
3
"""
from .loader import configs_dir, find_config, list_configs, load_config, overview
from .schema import Config

__all__ = ["Config", "configs_dir", "find_config", "list_configs", "load_config", "overview"]
