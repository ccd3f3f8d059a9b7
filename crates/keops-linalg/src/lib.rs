//! keops-linalg.
