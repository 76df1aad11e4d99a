//! The same random queries over the same data, asked of Pyrrha and of a real Prometheus.
//!
//! Skipped, with a printed reason, where no `prometheus` is on the PATH. Environment:
//! `PYRRHA_DIFFERENTIAL_QUERIES` (500), `PYRRHA_DIFFERENTIAL_SEED` (1), which also says where
//! in time the data lies; `PYRRHA_DIFFERENTIAL_PROMETHEUS` (`prometheus`), the program of the
//! reference. It is made for Debian's Prometheus 2.42; samples and resets are kept off window edges and counters far from zero,
//! because there it differs from today's language by design.

#[path = "support/http.rs"]
mod http;
#[path = "support/process.rs"]
mod process;

#[path = "differential/compare.rs"]
mod compare;
#[path = "differential/data.rs"]
mod data;
#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/servers.rs"]
mod servers;

use compare::Verdict;
use generate::Generator;
use process::{Server, free_address, remote_write};

/// Distance of query times to a full minute: subquery steps, which are multiples of their length,
/// never fall on a window's edge.
const OFF_THE_MINUTE_S: i64 = 7;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn random_queries_agree_with_prometheus() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Some(reference) = servers::prometheus(dir.path()) else {
        println!("skipped: no prometheus on the PATH (Debian's package prometheus has it)");
        return;
    };
    let tested = Server::pyrrha(&dir.path().join("pyrrha"), &free_address());
    let (queries, seed) =
        (setting("PYRRHA_DIFFERENTIAL_QUERIES", 500), setting("PYRRHA_DIFFERENTIAL_SEED", 1));
    let place = data::Place::of(seed);
    let end_s = place.end_s;
    println!("seed {seed}: data until {end_s}");
    for body in data::requests(place) {
        for server in [&reference, &tested] {
            let answer = remote_write(&server.address, &body).expect("an answer");
            assert_eq!(answer.status / 100, 2, "{}: {}", server.address, answer.text());
        }
    }
    let mut generator = Generator::new(seed, end_s + OFF_THE_MINUTE_S);
    let mut tally = Tally::default();
    for number in 0..queries {
        let query = generator.expression();
        let at = (end_s / 60 - 2 - (number % 20) as i64) * 60 + OFF_THE_MINUTE_S;
        let path = if number % 4 == 0 {
            format!("/api/v1/query?query={}&time={at}", http::encode(&query))
        } else {
            let (start, step) = (at - 1200, 60);
            format!("/api/v1/query_range?query={}&start={start}&end={at}&step={step}", http::encode(&query))
        };
        tally.add(&query, compare::verdict(&reference.get(&path), &tested.get(&path)));
    }
    println!("seed {seed}: {tally:?}");
    assert!(tally.equal > queries / 2, "most queries must have comparable answers: {tally:?}");
    assert!(tally.nonempty > queries / 4, "enough answers must hold data: {tally:?}");
    assert_eq!(tally.different, 0, "seed {seed}: see the output above");
}

#[derive(Debug, Default)]
struct Tally {
    equal: u64,
    nonempty: u64,
    both_refuse: u64,
    incomparable: u64,
    different: u64,
}

impl Tally {
    fn add(&mut self, query: &str, verdict: Verdict) {
        match verdict {
            Verdict::Equal { samples } => {
                self.equal += 1;
                self.nonempty += u64::from(samples > 0);
            }
            Verdict::BothRefuse => self.both_refuse += 1,
            Verdict::Incomparable => self.incomparable += 1,
            Verdict::Different(how) => {
                self.different += 1;
                println!("DIFFERENT {query}\n    {how}");
            }
        }
    }
}
