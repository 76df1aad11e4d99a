use super::*;

fn annotation(note: Note, metric: &str, start: u32) -> Annotation {
    Annotation { note, metric: metric.into(), pos: Pos { start, end: start + 1 } }
}

#[test]
fn texts_end_with_the_position() {
    let mut annotations = Annotations::default();
    annotations.add(annotation(Note::InvalidQuantile(1.5), "", 9));
    annotations.add(annotation(Note::PossibleNonCounter, "up", 3));
    assert_eq!(
        annotations.warnings("quantile(\n1.5, x)"),
        ["PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:10)"]
    );
    assert_eq!(
        annotations.infos("rate(up[5m])"),
        [
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"up\" (1:4)"
        ]
    );
}

#[test]
fn measurements_of_one_text_add_up() {
    let fixed = |min_time, max_bucket, max_diff| {
        Note::ForcedMonotonicity(Monotonicity {
            min_time,
            max_time: min_time,
            min_bucket: 0.1,
            max_bucket,
            max_diff,
            samples: 1,
        })
    };
    let mut annotations = Annotations::default();
    annotations.add(annotation(fixed(0, 1.0, 0.5), "", 0));
    annotations.add(annotation(fixed(60_000, f64::INFINITY, 123.0), "", 0));
    let text = &annotations.infos("x")[0];
    assert!(
        text.ends_with(
            ", from buckets 0.1 to +Inf, with a max diff of 1.2e+02, over 2 samples from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z (1:1)"
        ),
        "{text}"
    );
}

#[test]
fn lines_and_columns_count_from_one_in_bytes() {
    assert_eq!(line_and_column("a\nbc", 3), "2:2");
    assert_eq!(line_and_column("a\nbc", 2), "2:1");
    assert_eq!(line_and_column("", 7), "1:1");
}
