//! Integer sequences: round trips, and that each predictor has its case.

use proptest::prelude::*;

use super::*;

fn bytes_of(numbers: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(numbers, &mut out);
    out
}

#[test]
fn each_predictor_has_its_case() {
    let n = 512i64;
    let jitter = |i: i64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64) as u64 >> 33) as i64 % 13;
    let zero: Vec<i64> = (0..n).map(&jitter).collect();
    let last: Vec<i64> = (0..n)
        .scan(0, |v, i| {
            *v += (i * i * 31) % 1009;
            Some(*v)
        })
        .collect();
    let change: Vec<i64> = (0..n).map(|i| i * i).collect();
    let line: Vec<i64> = (0..n).map(|i| i * 15_000 + jitter(i)).collect();
    for (numbers, predictor) in [(zero, 0), (last, 1), (change, 2), (line, 3)] {
        assert_eq!(bytes_of(&numbers)[0], predictor);
    }
    // Equal numbers, and those of a common divisor.
    assert_eq!(bytes_of(&[7; 500]), [0, 14, 0]);
    let wide: Vec<i64> = (0..n).map(|i| 3 + 4096 * jitter(i)).collect();
    assert!(bytes_of(&wide).len() < 512 / 2 + 40);
}

fn numbers() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![Just(0i64), -5i64..50, any::<i32>().prop_map(i64::from), any::<i64>()];
    (any::<i64>(), 1i64..5000, 0u32..64, proptest::collection::vec(step, 1..400)).prop_map(
        |(first, scale, shift, steps)| {
            let walk = steps.into_iter().scan(first, |n, step| {
                *n = n.wrapping_add((step >> shift).wrapping_mul(scale));
                Some(*n)
            });
            walk.collect()
        },
    )
}

proptest! {
    #[test]
    fn round_trip(numbers in numbers(), cut: usize, bit: usize) {
        let mut bytes = bytes_of(&numbers);
        let cut = cut % bytes.len();
        prop_assert!(decode(&mut &bytes[..cut], numbers.len(), &mut Vec::new()).is_err());
        let mut bad = bytes.clone();
        bad[bit / 8 % bytes.len()] ^= 1 << (bit % 8);
        let _ = decode(&mut &bad[..], numbers.len(), &mut Vec::new());
        bytes.push(9);
        let (mut input, mut out) = (&bytes[..], vec![1]);
        decode(&mut input, numbers.len(), &mut out).unwrap();
        prop_assert_eq!(input, [9]);
        prop_assert_eq!(&out[1..], &numbers[..]);
    }
}
