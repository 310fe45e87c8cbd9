//! Writes the inputs that targets begin with: `corpus/TARGET/seed_*`.
//!
//! They are made with the code of today, so that a new format comes with new seeds.

use std::path::Path;
use vellum_fuzz::TARGETS;

fn main() -> std::io::Result<()> {
    for target in TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        std::fs::create_dir_all(&corpus)?;
        for (name, input) in (target.seeds)() {
            std::fs::write(corpus.join(format!("seed_{name}")), input)?;
        }
    }
    Ok(())
}
