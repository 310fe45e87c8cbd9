//! Vellum.
