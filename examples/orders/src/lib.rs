//! An orders service.
