//! The trace hash: what happened in a run, as one number. Two runs of a seed must agree.

use vellum_core::port::kernel::{Attr, Entry, Piece, Reply};
use vellum_core::port::meta_kv::{KvReply, KvRequest, Mutation, Read, Values};
use vellum_core::port::page_store::{PageReply, PageRequest};
use vellum_core::port::{Completion, Effect, Point};

/// Folds words and bytes into 64 bits; not cryptographic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Trace(0x9e37_79b9_7f4a_7c15)
    }
}

impl Trace {
    /// The hash so far.
    pub fn value(self) -> u64 {
        self.0
    }

    /// Folds a number in.
    pub fn word(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        self.0 = mixed ^ (mixed >> 32);
    }

    /// Folds bytes in.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    /// Folds an effect in, with the time it was asked for.
    pub fn effect(&mut self, time: u64, effect: &Effect) {
        self.word(time);
        match effect {
            Effect::Reply { request, reply, point } => {
                self.word(1);
                self.word(request.0);
                self.reply(reply);
                self.point(point);
            }
            Effect::Answer { request, answer } => {
                self.word(2);
                self.word(request.0);
                self.bytes(format!("{answer:?}").as_bytes());
            }
            Effect::Kv { id, request } => {
                self.word(3);
                self.word(id.0);
                self.kv_request(request);
            }
            Effect::Page { id, request } => {
                self.word(4);
                self.word(id.0);
                self.page_request(request);
            }
            Effect::Notify { id, notification } => {
                self.word(5);
                self.word(id.0);
                self.bytes(format!("{notification:?}").as_bytes());
            }
            Effect::Report(report) => self.bytes(report.text.as_bytes()),
        }
    }

    /// Folds a completion in, with the time it was delivered at.
    pub fn completion(&mut self, time: u64, id: u64, completion: &Completion) {
        self.word(time);
        self.word(id);
        match completion {
            Completion::Kv(Ok(reply)) => self.kv_reply(reply),
            Completion::Kv(Err(error)) => self.bytes(format!("{error:?}").as_bytes()),
            Completion::Page(Ok(PageReply::Data(data))) => self.bytes(&data[..data.len().min(64)]),
            Completion::Page(Ok(PageReply::Appended { physical })) => self.word(*physical),
            Completion::Page(other) => self.bytes(format!("{other:?}").as_bytes()),
            Completion::Notified => self.word(1),
        }
    }

    fn reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Data(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Bytes(b) => self.bytes(&b[..b.len().min(64)]),
                        Piece::Zeros(n) => self.word(u64::from(*n)),
                    }
                }
            }
            Reply::Entries(entries) => {
                for entry in entries {
                    self.word(entry.ino.0);
                    self.word(entry.cookie);
                    self.bytes(&entry.name);
                }
            }
            Reply::Attr { attr, .. } => self.attr(attr),
            Reply::Entry(Entry { attr: Some(attr), .. }) => self.attr(attr),
            Reply::Created { entry: Entry { attr: Some(attr), .. }, opened } => {
                self.word(opened.handle.0);
                self.attr(attr);
            }
            // Formatting is slow, and these are most answers.
            Reply::Done => self.word(5),
            Reply::Written(count) => self.word(6 + (u64::from(*count) << 8)),
            Reply::Opened(opened) => self.word(7 + (opened.handle.0 << 8)),
            Reply::Value(value) | Reply::Target(value) => self.bytes(&value[..value.len().min(64)]),
            other => self.bytes(format!("{other:?}").as_bytes()),
        }
    }

    fn point(&mut self, point: &Point) {
        match point {
            Point::Commit(commit) => {
                self.word(commit.version.0);
                self.word(u64::from(commit.batch));
            }
            Point::Snapshot(version) => self.word(version.0 ^ u64::MAX),
            Point::Step => self.word(8),
        }
    }

    fn attr(&mut self, attr: &Attr) {
        for word in
            [attr.ino.0, u64::from(attr.mode), u64::from(attr.nlink), attr.size, attr.blocks]
        {
            self.word(word);
        }
        for time in [attr.atime, attr.mtime, attr.ctime] {
            self.word(time.secs as u64);
            self.word(u64::from(time.nanos));
        }
    }

    fn kv_request(&mut self, request: &KvRequest) {
        match request {
            KvRequest::Read(round) => {
                self.word(round.at.map_or(u64::MAX, |v| v.0));
                for read in &round.reads {
                    match read {
                        Read::Get(key) => self.bytes(key),
                        Read::Range { range, limit, reverse } => {
                            self.bytes(&range.begin);
                            self.bytes(&range.end);
                            self.word(u64::from(*limit) << 1 | u64::from(*reverse));
                        }
                    }
                }
            }
            KvRequest::Commit(commit) => {
                self.word(commit.read_version.map_or(u64::MAX, |v| v.0));
                for range in commit.read_conflicts.iter().chain(&commit.write_conflicts) {
                    self.bytes(&range.begin);
                    self.bytes(&range.end);
                }
                for mutation in &commit.mutations {
                    self.mutation(mutation);
                }
            }
            KvRequest::Sync { up_to } => self.word(up_to.0),
        }
    }

    fn mutation(&mut self, mutation: &Mutation) {
        match mutation {
            Mutation::Set { key, value }
            | Mutation::SetStampedKey { key, value, .. }
            | Mutation::SetStampedValue { key, value, .. } => {
                self.bytes(key);
                self.bytes(&value[..value.len().min(64)]);
            }
            Mutation::Clear { key } => self.bytes(key),
            Mutation::ClearRange { range } => {
                self.bytes(&range.begin);
                self.bytes(&range.end);
            }
            Mutation::Atomic { key, op, operand } => {
                self.bytes(key);
                self.word(*op as u64);
                self.bytes(operand);
            }
        }
    }

    fn kv_reply(&mut self, reply: &KvReply) {
        match reply {
            KvReply::Values { version, values } => {
                self.word(version.0);
                for value in values {
                    match value {
                        Values::One(one) => {
                            self.word(one.as_ref().map_or(u64::MAX, |v| v.len() as u64))
                        }
                        Values::Rows { rows, more } => {
                            self.word((rows.len() as u64) << 1 | u64::from(*more))
                        }
                    }
                }
            }
            KvReply::Committed(commit) => {
                self.word(commit.version.0);
                self.word(u64::from(commit.batch));
            }
            KvReply::Durable(version) => self.word(version.0),
        }
    }

    fn page_request(&mut self, request: &PageRequest) {
        match request {
            PageRequest::Append(draft) => {
                self.bytes(&draft.id.to_bytes());
                self.word(u64::from(draft.len));
            }
            PageRequest::Read { segment, offset, len } => {
                self.bytes(&segment.to_bytes());
                self.word(u64::from(*offset) << 32 | u64::from(*len));
            }
            other => self.bytes(format!("{other:?}").as_bytes()),
        }
    }
}
