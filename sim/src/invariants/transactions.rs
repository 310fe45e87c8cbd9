//! No transaction is above the limits of the store, whichever store it goes to.

use vellum_core::limits::{KEY_MAX, TRANSACTION_MAX, VALUE_MAX};
use vellum_core::port::meta_kv::{CommitRequest, Mutation};

/// What is too large in a transaction.
pub fn too_large(request: &CommitRequest) -> Option<String> {
    let mut total = 0;
    for range in request.read_conflicts.iter().chain(&request.write_conflicts) {
        total += range.begin.len() + range.end.len();
    }
    for mutation in &request.mutations {
        let (key, value) = match mutation {
            Mutation::Set { key, value }
            | Mutation::SetStampedKey { key, value, .. }
            | Mutation::SetStampedValue { key, value, .. } => (key.len(), value.len()),
            Mutation::Clear { key } => (key.len(), 0),
            Mutation::ClearRange { range } => (range.begin.len().max(range.end.len()), 0),
            Mutation::Atomic { key, operand, .. } => (key.len(), operand.len()),
        };
        let room = match mutation {
            Mutation::SetStampedKey { stamp_at, .. } => Some((*stamp_at, key)),
            Mutation::SetStampedValue { stamp_at, .. } => Some((*stamp_at, value)),
            _ => None,
        };
        let fits = |(at, len): (usize, usize)| at.checked_add(10).is_some_and(|end| end <= len);
        if !room.is_none_or(fits) {
            return Some("a stamp beyond what it is written into".into());
        }
        if key > KEY_MAX || value > VALUE_MAX {
            return Some(format!("a key of {key} bytes with a value of {value}"));
        }
        total += key + value;
    }
    (total > TRANSACTION_MAX).then(|| format!("{total} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use vellum_core::port::meta_kv::Key;

    fn with(values: &[usize]) -> CommitRequest {
        let set =
            |len: &usize| Mutation::Set { key: Key::new(b"k"), value: Bytes::from(vec![0; *len]) };
        CommitRequest { mutations: values.iter().map(set).collect(), ..CommitRequest::default() }
    }

    #[test]
    fn values_and_sums_above_their_limits_are_told() {
        assert_eq!(too_large(&with(&[VALUE_MAX])), None);
        assert!(too_large(&with(&[VALUE_MAX + 1])).is_some());
        let many = TRANSACTION_MAX / VALUE_MAX;
        assert_eq!(too_large(&with(&vec![VALUE_MAX - 1; many])), None);
        assert!(too_large(&with(&vec![VALUE_MAX; many + 1])).is_some());
    }
}
