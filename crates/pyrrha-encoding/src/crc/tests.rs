//! Framings: known checksums, and any flipped bit is noticed.

use super::*;

#[test]
fn checksum_is_castagnoli() {
    // RFC 3720 B.4.
    assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
    assert_eq!(checksum(b"123456789"), 0xe306_9283);
    assert_eq!(checksum_append(checksum(b"1234"), b"56789"), checksum(b"123456789"));
}

#[test]
fn sections_and_chunks_round_trip() {
    let mut out = Vec::new();
    put_section(&mut out, b"body");
    put_chunk(&mut out, ChunkEncoding::Xor, &[7; 200]);
    assert_eq!(out[..4], [0, 0, 0, 4]);
    assert_eq!(out[12..15], [200, 1, 1]);
    let mut input = &out[..];
    assert_eq!(take_section("s", &mut input), Ok(&b"body"[..]));
    assert_eq!(take_chunk(&mut input), Ok((ChunkEncoding::Xor, &[7; 200][..])));
    assert!(input.is_empty());
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let mut chunk = Vec::new();
    put_chunk(&mut chunk, ChunkEncoding::Histogram, b"data");
    for bit in 0..chunk.len() * 8 {
        let mut bad = chunk.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(take_chunk(&mut &bad[..]).is_err(), "bit={bit}");
    }
    for len in 0..chunk.len() {
        assert!(take_chunk(&mut &chunk[..len]).is_err(), "len={len}");
    }
    assert!(take_section("s", &mut &[0xff, 0xff, 0xff, 0xff, 1][..]).is_err());
}

#[test]
fn any_change_of_a_sealed_text_is_found() {
    let mut sealed = b"{}".to_vec();
    seal_text(&mut sealed);
    assert_eq!(sealed, format!("{{}}\n{:08x}\n", checksum(b"{}\n")).as_bytes());
    assert_eq!(open_text("text", &sealed), Ok(&b"{}\n"[..]));
    for i in 0..sealed.len() {
        for bit in 0..8 {
            let mut flipped = sealed.clone();
            flipped[i] ^= 1 << bit;
            assert!(open_text("text", &flipped).is_err(), "byte {i} bit {bit}");
        }
        assert!(open_text("text", &sealed[..i]).is_err(), "cut at {i}");
    }
    // A checksum that begins with zeros, and digits that are written otherwise.
    let zeros = (0u32..).map(|n| format!("{n}\n").into_bytes()).find(|text| checksum(text) >> 24 == 0);
    let mut text = zeros.expect("there are some");
    text.pop();
    seal_text(&mut text);
    assert!(open_text("text", &text).is_ok());
    let at = text.len() - 9;
    text[at] = b'+';
    assert_eq!(open_text("text", &text), Err(DecodeError::Malformed { part: "text" }));
}
