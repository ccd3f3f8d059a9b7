//! keops-cuda.
