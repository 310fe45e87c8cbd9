//! An engine and a medium in memory. Every call lets other threads in between.

use crate::embedded::sync::thread;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use vellum_core::local::kv::{Batch, Engine, EngineError, Operand, Snapshot, Visit, Write};
use vellum_core::local::medium::{File, Medium, MediumError};
use vellum_core::port::meta_kv::{Key, KeyRange, Value, Version};

type Rows = BTreeMap<Key, Value>;

/// An engine that is a map. What is applied is durable.
#[derive(Default)]
pub(super) struct MapEngine(Mutex<(Arc<Rows>, Version)>);

#[derive(Clone)]
pub(super) struct MapSnapshot(Arc<Rows>);

impl MapEngine {
    pub(super) fn version(&self) -> Version {
        self.0.lock().expect("no panic").1
    }

    pub(super) fn rows(&self) -> usize {
        self.0.lock().expect("no panic").0.len()
    }
}

impl Engine for MapEngine {
    type Snapshot = MapSnapshot;

    fn apply(&self, batch: &Batch) -> Result<MapSnapshot, EngineError> {
        thread::yield_now();
        let mut state = self.0.lock().expect("no panic");
        let mut rows = (*state.0).clone();
        for range in batch.clears() {
            rows.retain(|key, _| !range.contains(key));
        }
        for (key, write) in batch.writes() {
            let new = match write {
                Write::Set(value) => Some(value.clone()),
                Write::Clear => None,
                Write::Merge(operands) => Operand::fold(operands, rows.get(key).map(|old| &**old)),
            };
            match new {
                Some(value) => drop(rows.insert(key.clone(), value)),
                None => drop(rows.remove(key)),
            }
        }
        assert!(batch.version() > state.1, "batches come in order");
        *state = (Arc::new(rows), batch.version());
        Ok(MapSnapshot(state.0.clone()))
    }
}

impl Snapshot for MapSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, EngineError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let mut rows = self.0.range(range.begin.clone()..range.end.clone());
        while let Some((key, value)) = if reverse { rows.next_back() } else { rows.next() } {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

/// Files in memory, each with what a power cut would leave of it.
#[derive(Clone, Default)]
pub(super) struct MemoryMedium(Arc<Mutex<BTreeMap<u32, MemoryFile>>>);

#[derive(Clone, Default)]
pub(super) struct MemoryFile(Arc<Mutex<Content>>);

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

impl MemoryMedium {
    /// What a power cut would leave.
    pub(super) fn synced(&self) -> MemoryMedium {
        let files = self.0.lock().expect("no panic");
        let left = files.iter().map(|(number, file)| {
            let synced = file.0.lock().expect("no panic").synced.clone();
            (*number, MemoryFile(Arc::new(Mutex::new(Content { bytes: synced.clone(), synced }))))
        });
        MemoryMedium(Arc::new(Mutex::new(left.collect())))
    }
}

impl Medium for MemoryMedium {
    type File = MemoryFile;

    fn list(&self) -> Result<Vec<u32>, MediumError> {
        Ok(self.0.lock().expect("no panic").keys().copied().collect())
    }

    fn create(&self, number: u32) -> Result<MemoryFile, MediumError> {
        let file = MemoryFile::default();
        let before = self.0.lock().expect("no panic").insert(number, file.clone());
        assert!(before.is_none(), "a file is created twice");
        Ok(file)
    }

    fn open(&self, number: u32) -> Result<MemoryFile, MediumError> {
        self.0.lock().expect("no panic").get(&number).cloned().ok_or(MediumError::Io)
    }

    fn remove(&self, number: u32) -> Result<(), MediumError> {
        self.0.lock().expect("no panic").remove(&number).map(drop).ok_or(MediumError::Io)
    }

    fn sync(&self) -> Result<(), MediumError> {
        thread::yield_now();
        Ok(())
    }
}

impl File for MemoryFile {
    fn len(&self) -> Result<u64, MediumError> {
        Ok(self.0.lock().expect("no panic").bytes.len() as u64)
    }

    fn read(&self, offset: u64, len: usize) -> Result<Bytes, MediumError> {
        let bytes = &self.0.lock().expect("no panic").bytes;
        let begin = (offset as usize).min(bytes.len());
        Ok(Bytes::copy_from_slice(&bytes[begin..(begin + len).min(bytes.len())]))
    }

    fn write(&self, offset: u64, pieces: &[Bytes]) -> Result<(), MediumError> {
        thread::yield_now();
        let bytes = &mut self.0.lock().expect("no panic").bytes;
        bytes.resize(offset as usize, 0);
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        Ok(())
    }

    fn sync(&self) -> Result<(), MediumError> {
        thread::yield_now();
        let mut content = self.0.lock().expect("no panic");
        content.synced = content.bytes.clone();
        Ok(())
    }

    fn punch(&self, _: u64, _: u64) -> Result<(), MediumError> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> Result<(), MediumError> {
        self.0.lock().expect("no panic").bytes.truncate(len as usize);
        Ok(())
    }
}
