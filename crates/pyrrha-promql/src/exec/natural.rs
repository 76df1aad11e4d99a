//! Natural order of texts: runs of digits compare as numbers.

use std::cmp::Ordering;

/// Compares piece by piece, where a piece is a run of digits or a run of anything else.
pub(super) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let (piece_a, rest_a) = split(a);
        let (piece_b, rest_b) = split(b);
        let order = match (number(piece_a), number(piece_b)) {
            (Some(x), Some(y)) => x.len().cmp(&y.len()).then_with(|| x.cmp(y)),
            _ => piece_a.cmp(piece_b),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.len().cmp(&b.len())
}

/// The first piece and the rest.
fn split(text: &str) -> (&str, &str) {
    let digit = |c: char| c.is_ascii_digit();
    let first = text.starts_with(digit);
    let end = text.find(|c: char| digit(c) != first).unwrap_or(text.len());
    text.split_at(end)
}

/// The digits of a number without leading zeros.
fn number(piece: &str) -> Option<&str> {
    piece.starts_with(|c: char| c.is_ascii_digit()).then(|| piece.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_compare_as_numbers() {
        for (a, b) in
            [("a2", "a10"), ("a", "a1"), ("cpu9x", "cpu10"), ("1.9", "1.10"), ("", "a"), ("07", "8")]
        {
            assert_eq!(natural_order(a, b), Ordering::Less, "{a} {b}");
            assert_eq!(natural_order(b, a), Ordering::Greater, "{b} {a}");
        }
        assert_eq!(natural_order("x01", "x1"), Ordering::Equal);
    }
}
