"""PyTorch's state dicts in safetensors files to Flax parameter trees and back; knows no model and no paper."""
