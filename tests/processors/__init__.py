"""A bundle made on one class of processors serves on every other. Run by `make test-avx2` and `make test-arm64`."""
