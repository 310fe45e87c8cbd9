//! Packets between peers, as pure functions: a head that names and checks everything, then the body.
//!
//! Owns: the bytes, byte by byte as in `docs/formats.md`. Never does: I/O, copying of payload.
//!
//! Invariants: every flipped bit is found; a length is believed only after the checksum of the head that
//! holds it and only within the bound of its kind, so whatever arrives, no more memory is asked for than
//! one packet may take. Tests: `packet/tests.rs`.

use crate::id::{SessionId, VolumeId};
use crate::limits::PEER_MESSAGE_MAX;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

#[cfg(test)]
mod tests;

/// Length of the head, which tells the length of the body.
pub const HEAD_LEN: usize = 40;

const MAGIC: [u8; 4] = *b"VPKT";
const FORMAT: u8 = 1;
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSE: u8 = 3;
const MESSAGE: u8 = 4;
const SKIP: u8 = 5;
const ALIVE: u8 = 6;
const HELLO_LEN: usize = 60;
const WELCOME_LEN: usize = 20;
const REFUSE_LEN: usize = 1;
/// What a decoder makes room for at least.
const ROOM: usize = 16 << 10;

/// The versions of the protocol that this program speaks, oldest and newest.
pub const VERSIONS: (u16, u16) = (1, 1);

/// What peers say to each other. `acked` counts messages of the one who is spoken to: every one up to
/// this sequence was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// The first packet of who connects.
    Hello(Hello),
    /// The answer of who accepts.
    Welcome {
        /// The version that both speak from now on.
        version: u16,
        /// Who accepts.
        session: SessionId,
        /// As in [`Packet`].
        acked: u64,
    },
    /// The other answer; the connection ends.
    Refuse(Refusal),
    /// A message.
    Message {
        /// Counts up by one from 1 within a pair of sessions.
        sequence: u64,
        /// As in [`Packet`].
        acked: u64,
        /// What it says.
        payload: Bytes,
    },
    /// The messages before this one that have not arrived never will.
    Skip {
        /// The sequence of the next message.
        next: u64,
        /// As in [`Packet`].
        acked: u64,
    },
    /// Nothing new, except perhaps what was taken.
    Alive {
        /// As in [`Packet`].
        acked: u64,
    },
}

/// Who connects, to whom, and what it remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Oldest and newest version of the protocol it speaks.
    pub versions: (u16, u16),
    /// The volume it works on.
    pub volume: VolumeId,
    /// Who connects.
    pub session: SessionId,
    /// Whom it was connected to before.
    pub peer: Option<SessionId>,
    /// Grows with each connection of this session.
    pub epoch: u64,
    /// As in [`Packet`], of the messages of `peer`.
    pub acked: u64,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No version of the protocol that both speak.
    Version,
    /// Another volume.
    Volume,
    /// The session has ended here and does not come back.
    Fenced,
    /// A later connection of the session is there already.
    Stale,
    /// As many sessions as there may be.
    Full,
}

/// Why bytes are not a packet. Nothing that follows them can be read either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// No packet begins here.
    NotAPacket,
    /// A checksum does not fit.
    Checksum,
    /// A format or kind that this program does not know.
    Unknown,
    /// Longer or shorter than its kind may be.
    Length,
    /// Fields that say nothing.
    Senseless,
}

impl Packet {
    /// The bytes to send: the head, with the body unless that is a payload; then the payload.
    ///
    /// # Panics
    /// When a payload is above the limit.
    pub fn encode(&self) -> [Bytes; 2] {
        let mut body = BytesMut::new();
        let mut payload = Bytes::new();
        let (kind, sequence, acked) = match self {
            Packet::Hello(hello) => {
                hello.encode(&mut body);
                (HELLO, hello.epoch, hello.acked)
            }
            Packet::Welcome { version, session, acked } => {
                body.put_u16_le(*version);
                body.put_u16_le(0);
                body.put_u128(session.0);
                (WELCOME, 0, *acked)
            }
            Packet::Refuse(refusal) => {
                body.put_u8(refusal.code());
                (REFUSE, 0, 0)
            }
            Packet::Message { sequence, acked, payload: bytes } => {
                assert!(bytes.len() <= PEER_MESSAGE_MAX, "a message above the limit");
                payload = bytes.clone();
                (MESSAGE, *sequence, *acked)
            }
            Packet::Skip { next, acked } => (SKIP, *next, *acked),
            Packet::Alive { acked } => (ALIVE, 0, *acked),
        };
        let long = if payload.is_empty() { &body[..] } else { &payload[..] };
        let mut out = BytesMut::with_capacity(HEAD_LEN + body.len());
        out.put_slice(&encode_head(kind, sequence, acked, long));
        out.put_slice(&body);
        [out.freeze(), payload]
    }

    /// The length of [`Packet::encode`], for those who count.
    pub fn wire_len(&self) -> usize {
        HEAD_LEN
            + match self {
                Packet::Hello(_) => HELLO_LEN,
                Packet::Welcome { .. } => WELCOME_LEN,
                Packet::Refuse(_) => REFUSE_LEN,
                Packet::Message { payload, .. } => payload.len(),
                Packet::Skip { .. } | Packet::Alive { .. } => 0,
            }
    }

    fn decode(head: &Head, mut body: Bytes) -> Result<Packet, PacketError> {
        let Head { kind, sequence, acked, .. } = *head;
        Ok(match kind {
            HELLO => Packet::Hello(Hello::decode(head, body)?),
            WELCOME => {
                let version = body.get_u16_le();
                if body.get_u16_le() != 0 {
                    return Err(PacketError::Senseless);
                }
                Packet::Welcome { version, session: SessionId(body.get_u128()), acked }
            }
            REFUSE => Packet::Refuse(Refusal::from_code(body[0]).ok_or(PacketError::Senseless)?),
            MESSAGE => Packet::Message { sequence, acked, payload: body },
            SKIP => Packet::Skip { next: sequence, acked },
            ALIVE => Packet::Alive { acked },
            _ => return Err(PacketError::Unknown),
        })
    }
}

impl Hello {
    fn encode(&self, body: &mut BytesMut) {
        body.put_u16_le(self.versions.0);
        body.put_u16_le(self.versions.1);
        body.put_u64_le(0);
        body.put_u128(self.volume.0);
        body.put_u128(self.session.0);
        body.put_u128(self.peer.map_or(0, |peer| peer.0));
    }

    fn decode(head: &Head, mut body: Bytes) -> Result<Hello, PacketError> {
        let versions = (body.get_u16_le(), body.get_u16_le());
        let zeros = body.get_u64_le();
        let volume = VolumeId(body.get_u128());
        let session = SessionId(body.get_u128());
        let peer = Some(SessionId(body.get_u128())).filter(|peer| peer.0 != 0);
        if versions.0 > versions.1 || zeros != 0 || session.0 == 0 {
            return Err(PacketError::Senseless);
        }
        Ok(Hello { versions, volume, session, peer, epoch: head.sequence, acked: head.acked })
    }
}

impl Refusal {
    const ALL: [Refusal; 5] =
        [Refusal::Version, Refusal::Volume, Refusal::Fenced, Refusal::Stale, Refusal::Full];

    fn code(self) -> u8 {
        match self {
            Refusal::Version => 1,
            Refusal::Volume => 2,
            Refusal::Fenced => 3,
            Refusal::Stale => 4,
            Refusal::Full => 5,
        }
    }

    fn from_code(code: u8) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|refusal| refusal.code() == code)
    }
}

/// Turns what arrives, in whatever pieces, into packets.
#[derive(Debug, Default)]
pub struct Decoder {
    held: BytesMut,
    /// The head at the begin of `held`, once it is known to be good.
    head: Option<Head>,
    failed: Option<PacketError>,
}

impl Decoder {
    /// Where the next bytes go: empty room behind those that are held, enough for the rest of the packet
    /// that has begun.
    pub fn room(&mut self) -> &mut BytesMut {
        let whole = self.head.map_or(0, |head| HEAD_LEN + head.body_len);
        self.held.reserve(whole.saturating_sub(self.held.len()).max(ROOM));
        &mut self.held
    }

    /// Takes bytes that lie elsewhere.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.room().extend_from_slice(bytes);
    }

    /// The next packet, if all of it is there.
    ///
    /// # Errors
    /// When what arrived is no packet; from then on always the same.
    pub fn poll_packet(&mut self) -> Result<Option<Packet>, PacketError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let packet = self.next();
        self.failed = packet.as_ref().err().copied();
        packet
    }

    /// Whether a packet has begun that is not complete: an end of the connection here cuts it off.
    pub fn is_amid(&self) -> bool {
        !self.held.is_empty()
    }

    fn next(&mut self) -> Result<Option<Packet>, PacketError> {
        let head = match self.head {
            Some(head) => head,
            None if self.held.len() < HEAD_LEN => return Ok(None),
            None => *self.head.insert(Head::decode(&self.held)?),
        };
        if self.held.len() < HEAD_LEN + head.body_len {
            return Ok(None);
        }
        let mut packet = self.held.split_to(HEAD_LEN + head.body_len).freeze();
        self.head = None;
        packet.advance(HEAD_LEN);
        if xxh3_64_with_seed(&packet, body_seed(head.kind, head.sequence)) != head.body_sum {
            return Err(PacketError::Checksum);
        }
        Packet::decode(&head, packet).map(Some)
    }
}

/// What a head says.
#[derive(Clone, Copy, Debug)]
struct Head {
    kind: u8,
    body_len: usize,
    sequence: u64,
    acked: u64,
    body_sum: u64,
}

impl Head {
    /// Decodes and checks the first [`HEAD_LEN`] bytes, which are there.
    fn decode(bytes: &[u8]) -> Result<Head, PacketError> {
        let bytes = &bytes[..HEAD_LEN];
        if bytes[0..4] != MAGIC {
            return Err(PacketError::NotAPacket);
        }
        if head_sum(bytes) != u32::from_le_bytes(array(bytes, 12)) {
            return Err(PacketError::Checksum);
        }
        let kind = bytes[5];
        if bytes[4] != FORMAT || bytes[6..8] != [0, 0] {
            return Err(PacketError::Unknown);
        }
        let body_len = u32::from_le_bytes(array(bytes, 8)) as usize;
        let fits = match kind {
            HELLO => body_len == HELLO_LEN,
            WELCOME => body_len == WELCOME_LEN,
            REFUSE => body_len == REFUSE_LEN,
            MESSAGE => body_len <= PEER_MESSAGE_MAX,
            SKIP | ALIVE => body_len == 0,
            _ => return Err(PacketError::Unknown),
        };
        if !fits {
            return Err(PacketError::Length);
        }
        Ok(Head {
            kind,
            body_len,
            sequence: u64::from_le_bytes(array(bytes, 16)),
            acked: u64::from_le_bytes(array(bytes, 24)),
            body_sum: u64::from_le_bytes(array(bytes, 32)),
        })
    }
}

fn encode_head(kind: u8, sequence: u64, acked: u64, body: &[u8]) -> [u8; HEAD_LEN] {
    let mut head = [0; HEAD_LEN];
    head[0..4].copy_from_slice(&MAGIC);
    head[4..6].copy_from_slice(&[FORMAT, kind]);
    head[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[16..24].copy_from_slice(&sequence.to_le_bytes());
    head[24..32].copy_from_slice(&acked.to_le_bytes());
    let body_sum = xxh3_64_with_seed(body, body_seed(kind, sequence));
    head[32..40].copy_from_slice(&body_sum.to_le_bytes());
    let sum = head_sum(&head);
    head[12..16].copy_from_slice(&sum.to_le_bytes());
    head
}

/// Of the head without the place of the sum itself.
fn head_sum(head: &[u8]) -> u32 {
    let mut covered = [0; HEAD_LEN - 4];
    covered[..12].copy_from_slice(&head[..12]);
    covered[12..].copy_from_slice(&head[16..HEAD_LEN]);
    xxh3_64(&covered) as u32
}

/// A body fits the head of its own packet only.
fn body_seed(kind: u8, sequence: u64) -> u64 {
    sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(kind)
}

/// The `N` bytes at `at`, which are there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
