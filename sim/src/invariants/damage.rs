//! Bytes that cannot be read are an error of the read, and a report that names the inode and the range.

use std::collections::BTreeSet;
use vellum_core::id::Ino;

use crate::world::{Failure, Outcome};

/// What readers were told and what was reported, in the life of a mount.
#[derive(Clone, Debug, Default)]
pub struct Damage {
    refused: BTreeSet<Ino>,
    reported: Vec<String>,
}

impl Damage {
    /// A read of this inode was answered with EIO.
    pub fn refuse(&mut self, ino: Ino) {
        self.refused.insert(ino);
    }

    /// The machine reported something.
    pub fn report(&mut self, text: &str) {
        if text.starts_with("reading inode ") {
            self.reported.push(text.to_string());
        }
    }

    /// Every inode that was refused is named, with a range of bytes.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Outcome<()> {
        for ino in &self.refused {
            let named = format!("reading inode {ino}, bytes ");
            if !self.reported.iter().any(|text| text.starts_with(&named)) {
                let text = format!("a read of {ino} failed, and no report names it");
                return Err(Failure::new("silent-damage", text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_read_needs_a_report_of_its_inode_and_range() {
        let mut damage = Damage::default();
        assert!(damage.check().is_ok());
        damage.refuse(Ino(7));
        assert!(damage.check().is_err());
        damage.report(&format!("reading inode {}, bytes 0..1: Corrupt", Ino(8)));
        assert!(damage.check().is_err());
        damage.report(&format!("reading inode {}, bytes 0..1: Corrupt", Ino(7)));
        assert!(damage.check().is_ok());
    }
}
