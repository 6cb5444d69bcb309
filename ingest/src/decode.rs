//! Undoing content encodings, one or several on top of each other, into a bounded body.
//!
//! Everything streams: however many encodings there are, only the decoded body and each decoder's
//! window are in memory, and both are charged to the request's [`Share`]. What lies between two
//! encodings is bounded as well, by little more than the body is: a stream may be long and yet mean
//! nothing, such as one of empty blocks. So what a bomb can take is its limit, not its size.

use std::io::{self, BufRead, BufReader, Read};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status, bufread::MultiGzDecoder};
use zstd::zstd_safe::DParameter;

use crate::{budget::Share, form::Coding, refusal::Refusal};

/// A zstd window may have 8 MiB (RFC 9659, 3).
const ZSTD_WINDOW_LOG: u32 = 23;

/// Undoes `codings`, which were applied in that order, to a body of at most `limit` bytes.
pub fn decode(
    encoded: &[u8],
    codings: &[Coding],
    limit: usize,
    share: &mut Share,
) -> Result<Vec<u8>, Refusal> {
    let windows = codings.iter().map(|coding| coding.window_bytes()).sum();
    share.grow(windows)?;
    let refused = |error: io::Error, after: usize| match error.kind() {
        io::ErrorKind::FileTooLarge => Refusal::DecompressedTooLarge(limit),
        io::ErrorKind::UnexpectedEof => {
            Refusal::EncodingTruncated { codings: names(codings), at: encoded.len() }
        }
        _ => Refusal::EncodingDamaged { codings: names(codings), after },
    };
    // What cannot be compressed grows by an encoding, but not by as much as this.
    let between = limit + limit / 16 + 1024;
    let mut stream: Box<dyn BufRead + '_> = Box::new(encoded);
    for coding in codings.iter().rev() {
        stream = coding.decoder(stream, between).map_err(|error| refused(error, 0))?;
    }
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let chunk = match stream.fill_buf() {
            Ok([]) => break,
            Ok(chunk) if chunk.len() > limit - bytes.len() => {
                return Err(Refusal::DecompressedTooLarge(limit));
            }
            Ok(chunk) => chunk,
            Err(error) => return Err(refused(error, bytes.len())),
        };
        share.extend(&mut bytes, chunk, limit)?;
        let read = chunk.len();
        stream.consume(read);
        std::thread::yield_now(); // whoever waits for this core has less to do
    }
    drop(stream);
    share.shrink(windows);
    share.fit(&mut bytes);
    Ok(bytes)
}

fn names(codings: &[Coding]) -> String {
    codings.iter().map(|coding| coding.name()).collect::<Vec<_>>().join(", ")
}

impl Coding {
    /// What its decoder keeps to look back at.
    fn window_bytes(self) -> usize {
        match self {
            Self::Gzip | Self::Deflate => 64 * 1024,
            Self::Zstd => (1 << ZSTD_WINDOW_LOG) + 256 * 1024,
            // RFC 7932, 9.1: at most 16 MiB, and tables.
            Self::Brotli => 17 * 1024 * 1024,
        }
    }

    /// Of at most so many bytes; more of them is [`io::ErrorKind::FileTooLarge`].
    fn decoder<'a>(
        self,
        mut from: Box<dyn BufRead + 'a>,
        most: usize,
    ) -> io::Result<Box<dyn BufRead + 'a>> {
        let decoder: Box<dyn Read + 'a> = match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(from)),
            Self::Deflate => {
                let inflater = inflater(&mut *from)?;
                Whole::reader(from, inflater)
            }
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(from)?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
                Box::new(decoder)
            }
            Self::Brotli => {
                let alloc = StandardAlloc::default;
                let state = Box::new(BrotliState::new(alloc(), alloc(), alloc()));
                Whole::reader(from, state)
            }
        };
        Ok(Box::new(BufReader::with_capacity(64 * 1024, Bounded { decoder, left: most })))
    }
}

/// A decoder that may give so many bytes more.
struct Bounded<'a> {
    decoder: Box<dyn Read + 'a>,
    left: usize,
}

impl Read for Bounded<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(out)?;
        self.left = self.left.checked_sub(read).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

/// A decoder that is fed piece by piece.
trait Steps {
    /// Decodes what of `input` fits into `out`.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> io::Result<Step>;
}

/// What became of an input.
struct Step {
    read: usize,
    written: usize,
    /// The stream ends here.
    ended: bool,
}

/// One stream and nothing behind it, which a decoder's own reader may not notice.
struct Whole<'a, D> {
    from: Box<dyn BufRead + 'a>,
    decoder: D,
    ended: bool,
}

impl<'a, D: Steps + 'a> Whole<'a, D> {
    fn reader(from: Box<dyn BufRead + 'a>, decoder: D) -> Box<dyn Read + 'a> {
        Box::new(Self { from, decoder, ended: false })
    }
}

impl<D: Steps> Read for Whole<'_, D> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let input = self.from.fill_buf()?;
            let at_end = input.is_empty();
            if self.ended {
                return if at_end { Ok(0) } else { Err(io::ErrorKind::InvalidData.into()) };
            }
            let Step { read, written, ended } = self.decoder.step(input, out)?;
            self.from.consume(read);
            self.ended = ended;
            match written {
                0 if ended => {}
                0 if at_end => return Err(io::ErrorKind::UnexpectedEof.into()),
                0 if read == 0 => return Err(io::ErrorKind::InvalidData.into()),
                0 => {}
                _ => return Ok(written),
            }
        }
    }
}

/// `deflate` of RFC 9110, 8.4.1.2: a zlib stream, or the bare deflate stream that some clients send
/// under this name.
fn inflater(from: &mut dyn BufRead) -> io::Result<Decompress> {
    // RFC 1950, 2.2: method 8, and a check that makes the first two bytes a multiple of 31.
    let zlib = match from.fill_buf()? {
        [first, second, ..] => {
            first & 0x0f == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31)
        }
        _ => true,
    };
    Ok(Decompress::new(zlib))
}

impl Steps for Decompress {
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> io::Result<Step> {
        let before = (self.total_in(), self.total_out());
        let status = self
            .decompress(input, out, FlushDecompress::None)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Step {
            read: (self.total_in() - before.0) as usize,
            written: (self.total_out() - before.1) as usize,
            ended: status == Status::StreamEnd,
        })
    }
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

impl Steps for Box<Brotli> {
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> io::Result<Step> {
        let (mut left, mut room) = (input.len(), out.len());
        let (mut read, mut written, mut total) = (0, 0, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut read,
            input,
            &mut room,
            &mut written,
            out,
            &mut total,
            self,
        );
        match result {
            BrotliResult::ResultFailure => Err(io::ErrorKind::InvalidData.into()),
            _ => Ok(Step { read, written, ended: matches!(result, BrotliResult::ResultSuccess) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;
    use crate::budget::Budget;

    const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Zstd, Coding::Brotli];
    const TEXT: &[u8] = b"a body of some length, long enough to be cut anywhere";
    /// [`TEXT`] by the reference encoder of brotli.
    const TEXT_BROTLI: &[u8] = include_bytes!("../tests/data/body.br");

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bare_deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn text_in(coding: Coding) -> Vec<u8> {
        match coding {
            Coding::Gzip => gzip(TEXT),
            Coding::Deflate => zlib(TEXT),
            Coding::Zstd => zstd::encode_all(TEXT, 3).unwrap(),
            Coding::Brotli => TEXT_BROTLI.to_vec(),
        }
    }

    fn share(budget: &Budget) -> Share {
        budget.share(&("default".into(), "key".into()))
    }

    fn decoded(bytes: &[u8], codings: &[Coding], limit: usize) -> Result<Vec<u8>, Refusal> {
        decode(bytes, codings, limit, &mut share(&Budget::new(1 << 31, Gauge::default())))
    }

    #[test]
    fn each_coding_is_undone() {
        for coding in ALL {
            assert_eq!(
                decoded(&text_in(coding), &[coding], TEXT.len()).unwrap(),
                TEXT,
                "{coding:?}"
            );
        }
    }

    #[test]
    fn deflate_without_the_zlib_header_is_undone_as_well() {
        assert_eq!(decoded(&bare_deflate(TEXT), &[Coding::Deflate], 1000).unwrap(), TEXT);
    }

    #[test]
    fn codings_on_top_of_each_other_are_undone_last_first() {
        let twice = gzip(&zstd::encode_all(TEXT, 3).unwrap());
        assert_eq!(decoded(&twice, &[Coding::Zstd, Coding::Gzip], 1000).unwrap(), TEXT);
        assert!(decoded(&twice, &[Coding::Gzip, Coding::Zstd], 1000).is_err());
    }

    #[test]
    fn gzip_members_and_zstd_frames_that_follow_each_other_are_one_body() {
        let both = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(decoded(&both, &[Coding::Gzip], 7).unwrap(), b"one two");
        let both = [&b"one "[..], b"two"].map(|part| zstd::encode_all(part, 3).unwrap()).concat();
        assert_eq!(decoded(&both, &[Coding::Zstd], 7).unwrap(), b"one two");
    }

    #[test]
    fn every_truncation_of_every_coding_is_noticed() {
        for coding in ALL {
            let whole = text_in(coding);
            // An empty zstd stream is no frame at all, and no frame is an empty body.
            let shortest = if coding == Coding::Zstd { 1 } else { 0 };
            for length in shortest..whole.len() {
                let outcome = decoded(&whole[..length], &[coding], 1000);
                assert!(outcome.is_err(), "{coding:?} cut at {length}: {outcome:?}");
            }
        }
    }

    #[test]
    fn a_truncated_body_is_told_from_a_damaged_one() {
        for coding in ALL {
            let whole = text_in(coding);
            let at = whole.len() - 1;
            let refusal = decoded(&whole[..at], &[coding], 1000).unwrap_err();
            let codings = coding.name().to_owned();
            assert_eq!(refusal, Refusal::EncodingTruncated { codings, at });
        }
    }

    #[test]
    fn a_flipped_bit_of_the_checksum_is_noticed() {
        let mut damaged = gzip(TEXT);
        let checksum = damaged.len() - 8;
        damaged[checksum] ^= 1;
        let refusal = decoded(&damaged, &[Coding::Gzip], 1000).unwrap_err();
        assert!(matches!(refusal, Refusal::EncodingDamaged { .. }), "{refusal:?}");
    }

    #[test]
    fn bytes_after_the_end_are_noticed() {
        for coding in ALL {
            let trailing = [text_in(coding), b"garbage".to_vec()].concat();
            let outcome = decoded(&trailing, &[coding], 1000);
            assert!(outcome.is_err(), "{coding:?}: {outcome:?}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit_and_charged_for_no_more() {
        let zeros = vec![0; 10_000_000];
        let bombs = [
            (gzip(&zeros), vec![Coding::Gzip]),
            (zlib(&zeros), vec![Coding::Deflate]),
            (zstd::encode_all(&zeros[..], 3).unwrap(), vec![Coding::Zstd]),
            (gzip(&gzip(&zeros)), vec![Coding::Gzip, Coding::Gzip]),
        ];
        for (bomb, codings) in bombs {
            let budget = Budget::new(1 << 30, Gauge::default());
            let mut share = share(&budget);
            let refusal = decode(&bomb, &codings, 1_000_000, &mut share).unwrap_err();
            assert_eq!(refusal, Refusal::DecompressedTooLarge(1_000_000), "{codings:?}");
            let windows: usize = codings.iter().map(|coding| coding.window_bytes()).sum();
            assert!(share.has((3 << 28) - 1_000_000 - windows), "{codings:?}");
        }
    }

    #[test]
    fn a_long_stream_that_means_nothing_is_stopped_at_the_limit() {
        let empty_blocks = [&[0, 0, 0, 0xff, 0xff].repeat(1_000_000)[..], &[3, 0]].concat();
        let codings = [Coding::Deflate, Coding::Zstd];
        let bomb = zstd::encode_all(&empty_blocks[..], 3).unwrap();
        let refusal = decoded(&bomb, &codings, 1_000_000).unwrap_err();
        assert_eq!(refusal, Refusal::DecompressedTooLarge(1_000_000));
        assert_eq!(decoded(&bomb, &codings, 10_000_000).unwrap(), b"");
    }

    #[test]
    fn what_does_not_compress_may_be_as_large_as_the_limit() {
        let mut seed = 1u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        };
        let noise: Vec<u8> = (0..100_000).map(|_| random()).collect();
        let stored = |bytes: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let thrice = stored(&stored(&stored(&noise)));
        assert_eq!(decoded(&thrice, &[Coding::Gzip; 3], noise.len()).unwrap(), noise);
    }

    #[test]
    fn a_zstd_frame_that_asks_for_a_larger_window_than_allowed_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(TEXT).unwrap();
        let greedy = encoder.finish().unwrap();
        assert!(decoded(&greedy, &[Coding::Zstd], 1000).is_err());
    }

    #[test]
    fn decoded_bytes_are_charged_to_the_budget() {
        let budget = Budget::new(200_000, Gauge::default());
        let body = gzip(&vec![0; 200_000]);
        let refusal = decode(&body, &[Coding::Gzip], 1 << 20, &mut share(&budget)).unwrap_err();
        assert_eq!(refusal, Refusal::OverBudget);

        let budget = Budget::new(1 << 20, Gauge::default());
        let mut share = share(&budget);
        decode(&body, &[Coding::Gzip], 1 << 20, &mut share).unwrap();
        let left = (3 << 18) - 200_000;
        assert!(share.has(left) && !share.has(left + 1), "for no more than they are");
    }
}
