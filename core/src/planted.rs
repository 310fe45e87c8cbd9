//! The places of known bugs.

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
