//! The places of known bugs and of rare situations.

/// Whether a bug of `canary::Canary` is planted here and now; always false without the feature `canary`.
#[cfg(feature = "canary")]
macro_rules! planted {
    ($bug:ident) => {
        $crate::canary::is_planted($crate::canary::Canary::$bug)
    };
}

/// No bug is ever planted.
#[cfg(not(feature = "canary"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

/// Notes that a rare situation was met, for a test that demands that it is; nothing without the feature
/// `canary`.
#[cfg(feature = "canary")]
macro_rules! probe {
    ($name:literal) => {
        $crate::canary::met($name)
    };
}

/// Nobody asks.
#[cfg(not(feature = "canary"))]
macro_rules! probe {
    ($name:literal) => {{}};
}
