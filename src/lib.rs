//! keops.
