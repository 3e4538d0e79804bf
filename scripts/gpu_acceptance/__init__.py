"""The claims of docs/devices.md about GPUs, checked one by one; see scripts/gpu_acceptance.sh."""
