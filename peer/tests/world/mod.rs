//! What the tests of the transport share: who judges, who sends, who answers, who stands between them.
#![allow(dead_code)]

pub(crate) mod actors;
pub(crate) mod dice;
pub(crate) mod judge;
pub(crate) mod proxy;
