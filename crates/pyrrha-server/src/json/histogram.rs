//! A native histogram as JSON: count, sum, and the buckets that hold something, from the most
//! negative up, each as `[boundaries, "lower", "upper", "count"]`.

use pyrrha_model::FloatHistogram;
use pyrrha_model::go_fmt::push_json_float;

pub(crate) fn push(out: &mut Vec<u8>, h: &FloatHistogram) {
    out.extend_from_slice(br#"{"count":""#);
    push_json_float(out, h.count);
    out.extend_from_slice(br#"","sum":""#);
    push_json_float(out, h.sum);
    out.push(b'"');
    let mut any = false;
    for bucket in h.populated_buckets() {
        out.extend_from_slice(if any { b",[" } else { br#","buckets":[["# });
        any = true;
        out.push(b'0' + bucket.boundary_rule());
        for value in [bucket.lower, bucket.upper, bucket.count] {
            out.extend_from_slice(b",\"");
            push_json_float(out, value);
            out.push(b'"');
        }
        out.push(b']');
    }
    out.extend_from_slice(if any { b"]}" } else { b"}" });
}
