//! The binary; everything is in the library.
#![forbid(unsafe_code)]

/// A mount allocates for each request and frees on other threads; the C library's allocator is slower at
/// that by a tenth of a request and keeps what a burst has left.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    vellum::cli::main()
}
