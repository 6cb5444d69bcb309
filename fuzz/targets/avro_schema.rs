//! Any schema and any JSON: the input is a schema, an empty line, and JSON. What fits comes back as
//! the same, what does not has faults that point into `data`, and a schema can read itself.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use schemas::{Avro, UnknownFields};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(at) = input.windows(2).position(|pair| pair == b"\n\n") else {
        return Corpus::Reject;
    };
    let (schema, json) = (&input[..at], &input[at + 2..]);
    let Ok(schema) = std::str::from_utf8(schema) else { return Corpus::Reject };
    let Ok(avro) = Avro::parse(schema) else { return Corpus::Keep };
    assert_eq!(avro.clashes(&avro), [""; 0], "a schema that cannot read itself");
    for unknown in [UnknownFields::Reject, UnknownFields::Drop] {
        let mut datum = Vec::new();
        match avro.encode(json, unknown, &mut datum) {
            Ok(()) => {
                let back = avro.decode(&datum).expect("what was encoded can be decoded");
                let mut again = Vec::new();
                avro.encode(&back, UnknownFields::Reject, &mut again).unwrap_or_else(|faults| {
                    panic!("{faults:?} in {}", String::from_utf8_lossy(&back))
                });
                assert_eq!(again, datum, "{}", String::from_utf8_lossy(&back));
            }
            Err(faults) => {
                assert!(!faults.is_empty());
                for fault in faults {
                    assert!(fault.pointer.starts_with("/data"), "{fault:?}");
                }
            }
        }
    }
    Corpus::Keep
});
