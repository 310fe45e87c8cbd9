//! Stands between a client and a server and is no good: it cuts connections off in the middle of a packet,
//! flips bits, holds one direction up, and delivers in crumbs.

use super::dice::Dice;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Whether it still does harm.
pub(crate) type Evil = Arc<AtomicBool>;

/// Passes connections on to the server, until it is dropped.
pub(crate) async fn proxy(
    address: SocketAddr,
    server: impl Fn() -> SocketAddr,
    mut dice: Dice,
    evil: Evil,
    bound: impl FnOnce(SocketAddr),
) {
    let listener = TcpListener::bind(address).await.expect("the address is free");
    bound(listener.local_addr().expect("it is bound"));
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let pass = pass(client, server(), dice.split(), evil.clone());
        tokio::spawn(pass);
    }
}

async fn pass(client: TcpStream, server: SocketAddr, mut dice: Dice, evil: Evil) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (client_reader, client_writer) = tokio::io::split(client);
    let (server_reader, server_writer) = tokio::io::split(server);
    let (there, back) = (dice.split(), dice.split());
    // When one direction ends, so does the other: the halves are dropped.
    tokio::select! {
        biased;
        _ = pump(client_reader, server_writer, there, &evil) => {}
        _ = pump(server_reader, client_writer, back, &evil) => {}
    }
}

async fn pump(
    mut from: ReadHalf<TcpStream>,
    mut to: WriteHalf<TcpStream>,
    mut dice: Dice,
    evil: &Evil,
) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let room = if dice.one_in(3) { 1 + dice.below(50) as usize } else { buffer.len() };
        let mut len = from.read(&mut buffer[..room]).await?;
        if len == 0 {
            return Ok(());
        }
        let mut cut = false;
        if evil.load(Ordering::Relaxed) {
            if dice.one_in(150) {
                buffer[dice.below(len as u64) as usize] ^= 1 << dice.below(8);
            }
            if dice.one_in(150) {
                (len, cut) = (dice.below(len as u64) as usize, true);
            }
            if dice.one_in(200) {
                // Longer than a peer may be silent, at times.
                sleep(Duration::from_millis(dice.below(1500))).await;
            }
        }
        to.write_all(&buffer[..len]).await?;
        to.flush().await?;
        if cut {
            return Ok(());
        }
    }
}
