//! INIT: what both sides can do, and what is used of it.

use super::abi::{self, init};
use super::decode::{Dialect, Init};
use vellum_core::limits::IO_SIZE_MAX;

/// Requests that the kernel may have under way on its own behalf (read-ahead, writeback).
const BACKGROUND_MAX: u16 = 128;
/// From so many on the kernel calls itself congested.
const CONGESTION: u16 = BACKGROUND_MAX / 4 * 3;
/// Unit of [`abi::InitOut::max_pages`].
const PAGE: u32 = 4096;

/// What is asked for; the kernel may lack some. Each one is a promise that the machine keeps.
///
/// Not here, for a reason each:
/// - POSIX_LOCKS, FLOCK_LOCKS: the kernel's own locks are exact on a sole mount.
/// - WRITEBACK_CACHE: the kernel would own size and times.
/// - AUTO_INVAL_DATA: nobody else changes data; what does is announced.
/// - EXPORT_SUPPORT: a file handle of an inode that the kernel forgot cannot be looked up; its opposite
///   keeps such handles from being made.
const WANTED: &[(u64, &str)] = &[
    (init::ASYNC_READ, "ASYNC_READ"),
    (init::ATOMIC_O_TRUNC, "ATOMIC_O_TRUNC"),
    (init::BIG_WRITES, "BIG_WRITES"),
    (init::DONT_MASK, "DONT_MASK"),
    (init::DO_READDIRPLUS, "DO_READDIRPLUS"),
    (init::READDIRPLUS_AUTO, "READDIRPLUS_AUTO"),
    (init::ASYNC_DIO, "ASYNC_DIO"),
    (init::PARALLEL_DIROPS, "PARALLEL_DIROPS"),
    (init::POSIX_ACL, "POSIX_ACL"),
    (init::MAX_PAGES, "MAX_PAGES"),
    (init::CACHE_SYMLINKS, "CACHE_SYMLINKS"),
    (init::HANDLE_KILLPRIV_V2, "HANDLE_KILLPRIV_V2"),
    (init::SETXATTR_EXT, "SETXATTR_EXT"),
    (init::INIT_EXT, "INIT_EXT"),
    (init::HAS_EXPIRE_ONLY, "HAS_EXPIRE_ONLY"),
    (init::DIRECT_IO_ALLOW_MMAP, "DIRECT_IO_ALLOW_MMAP"),
    (init::NO_EXPORT_SUPPORT, "NO_EXPORT_SUPPORT"),
];

/// What follows from an offer.
#[derive(Debug)]
pub(super) enum Agreed {
    /// The answer, and how the kernel will speak.
    Yes(Box<abi::InitOut>, Dialect),
    /// The kernel speaks a later major version; it will ask again after this answer.
    AskAgain(Box<abi::InitOut>),
    /// The kernel is too old.
    No,
}

/// Answers an offer.
pub(super) fn negotiate(offer: &Init) -> Agreed {
    let mut answer = abi::InitOut { major: abi::MAJOR, minor: abi::MINOR, ..Default::default() };
    if offer.major > abi::MAJOR {
        return Agreed::AskAgain(Box::new(answer));
    }
    if (offer.major, offer.minor) < (abi::MAJOR, abi::MINOR_MIN) {
        return Agreed::No;
    }
    let wanted = WANTED.iter().fold(0, |all, (flag, _)| all | flag);
    for (flag, name) in WANTED {
        if offer.flags & flag == 0 {
            tracing::debug!(flag = name, "the kernel lacks a capability");
        }
    }
    let flags = wanted & offer.flags;
    answer.minor = offer.minor.min(abi::MINOR);
    answer.max_readahead = offer.max_readahead;
    answer.flags = flags as u32;
    answer.flags2 = (flags >> 32) as u32;
    answer.max_background = BACKGROUND_MAX;
    answer.congestion_threshold = CONGESTION;
    answer.max_write = IO_SIZE_MAX;
    answer.time_gran = 1;
    answer.max_pages = (IO_SIZE_MAX / PAGE) as u16;
    let dialect = Dialect { setxattr_ext: flags & init::SETXATTR_EXT != 0 };
    Agreed::Yes(Box::new(answer), dialect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(major: u32, minor: u32, flags: u64) -> Init {
        Init { major, minor, max_readahead: 1 << 17, flags }
    }

    #[test]
    fn only_what_both_know_is_agreed_on() {
        let Agreed::Yes(answer, dialect) = negotiate(&offer(7, 45, u64::MAX)) else {
            panic!("refused")
        };
        let flags = u64::from(answer.flags) | u64::from(answer.flags2) << 32;
        assert_eq!(flags, WANTED.iter().fold(0, |all, (flag, _)| all | flag));
        assert_eq!((answer.max_write, answer.max_pages), (1 << 20, 256));
        assert_eq!(dialect.setxattr_ext, flags & init::SETXATTR_EXT != 0);
        let Agreed::Yes(answer, dialect) = negotiate(&offer(7, 31, init::ASYNC_READ)) else {
            panic!("refused")
        };
        assert_eq!((answer.minor, answer.flags, answer.flags2), (31, init::ASYNC_READ as u32, 0));
        assert!(!dialect.setxattr_ext);
    }

    #[test]
    fn flags_beyond_the_first_word_are_asked_for_only_with_their_extension() {
        let high = WANTED.iter().any(|(flag, _)| *flag >> 32 != 0);
        let ext = WANTED.iter().any(|(flag, _)| *flag == init::INIT_EXT);
        assert!(!high || ext);
    }

    #[test]
    fn other_major_versions_are_asked_again_or_refused() {
        assert!(matches!(negotiate(&offer(8, 0, 0)), Agreed::AskAgain(a) if a.major == 7));
        assert!(matches!(negotiate(&offer(7, 30, 0)), Agreed::No));
        assert!(matches!(negotiate(&offer(6, 99, 0)), Agreed::No));
    }
}
