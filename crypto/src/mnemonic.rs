//! Thirteen words for 16 bytes: Monero's English list, and its way of counting
//! (`../shared/protocol/session-client.md`, section 1).

use std::sync::LazyLock;

use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

/// Words of a mnemonic, the checksum word included.
pub const WORD_COUNT: usize = 13;
/// Letters that tell the words of the list apart.
const PREFIX_SIZE: usize = 3;
/// The size of the list: the base that words count in.
const BASE: u32 = 1626;

/// The list, alphabetical.
static WORDS: LazyLock<Vec<&str>> =
    LazyLock::new(|| include_str!("mnemonic/english.txt").lines().collect());

/// Why words are no mnemonic. Each message is fit for a person and never repeats a word: it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MnemonicError {
    /// Not 13 words.
    #[error("a recovery phrase has 13 words, these are {0}")]
    WordCount(usize),
    /// A word that is not in the list (position counted from 1).
    #[error("word {0} is not in the word list")]
    UnknownWord(usize),
    /// Three words that encode no 32-bit number (position of the first, counted from 1).
    #[error("words {0} to {end} do not belong together", end = .0 + 2)]
    Triple(usize),
    /// The last word does not match the others.
    #[error("the last word does not match the others: a word is wrong or out of place")]
    Checksum,
}

/// The 13 words of 16 bytes.
pub fn encode(entropy: &[u8; 16]) -> Zeroizing<String> {
    let mut indices = Zeroizing::new([0; WORD_COUNT]);
    for (chunk, triple) in entropy.chunks_exact(4).zip(indices.chunks_exact_mut(3)) {
        let number = chunk
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u32::from(*byte));
        let first = number % BASE;
        let second = (number / BASE + first) % BASE;
        let third = (number / BASE / BASE + second) % BASE;
        triple.copy_from_slice(&[first, second, third]);
    }
    indices[WORD_COUNT - 1] = indices[checksum_position(&indices)];
    let mut phrase = Zeroizing::new(String::with_capacity(WORD_COUNT * 12));
    for (position, index) in indices.iter().enumerate() {
        if position > 0 {
            phrase.push(' ');
        }
        phrase.push_str(word(*index));
    }
    phrase
}

/// The 16 bytes of 13 words. Case and white space do not matter, nor do letters past the third.
pub fn decode(phrase: &str) -> Result<Zeroizing<[u8; 16]>, MnemonicError> {
    let count = phrase.split_whitespace().count();
    if count != WORD_COUNT {
        return Err(MnemonicError::WordCount(count));
    }
    let mut indices = Zeroizing::new([0; WORD_COUNT]);
    for (position, (word, index)) in phrase
        .split_whitespace()
        .zip(indices.iter_mut())
        .enumerate()
    {
        *index = find(word).ok_or(MnemonicError::UnknownWord(position + 1))?;
    }
    if indices[WORD_COUNT - 1] != indices[checksum_position(&indices)] {
        return Err(MnemonicError::Checksum);
    }
    let mut entropy = Zeroizing::new([0; 16]);
    for (position, (triple, chunk)) in indices
        .chunks_exact(3)
        .zip(entropy.chunks_exact_mut(4))
        .enumerate()
    {
        let number = join(triple).ok_or(MnemonicError::Triple(position * 3 + 1))?;
        chunk.copy_from_slice(&number.to_le_bytes());
    }
    Ok(entropy)
}

/// The number of three words; `None` when it is larger than 32 bits.
fn join(triple: &[u32]) -> Option<u32> {
    let [first, second, third] = triple else {
        return None;
    };
    let second = (BASE + second - first) % BASE;
    let third = (BASE + third - (first + second) % BASE) % BASE;
    let number = u64::from(*first)
        + u64::from(second) * u64::from(BASE)
        + u64::from(third) * u64::from(BASE).pow(2);
    u32::try_from(number).ok()
}

/// Which of the twelve words is repeated as the last.
fn checksum_position(indices: &[u32; WORD_COUNT]) -> usize {
    let mut hasher = crc32fast::Hasher::new();
    for index in indices.iter().take(WORD_COUNT - 1) {
        hasher.update(prefix(word(*index)).as_bytes());
    }
    usize::try_from(hasher.finalize()).unwrap_or(0) % (WORD_COUNT - 1)
}

fn word(index: u32) -> &'static str {
    usize::try_from(index)
        .ok()
        .and_then(|index| WORDS.get(index))
        .copied()
        .unwrap_or_default()
}

fn prefix(word: &str) -> &str {
    word.get(..PREFIX_SIZE).unwrap_or(word)
}

fn find(word: &str) -> Option<u32> {
    let mut lower = word.to_lowercase();
    let position = WORDS.binary_search_by(|listed| prefix(listed).cmp(prefix(&lower)));
    lower.zeroize();
    position
        .ok()
        .and_then(|position| u32::try_from(position).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_by_unique_prefixes() {
        assert_eq!(WORDS.len(), 1626);
        assert!(
            WORDS
                .windows(2)
                .all(|pair| prefix(pair[0]) < prefix(pair[1]))
        );
    }

    #[test]
    fn words_are_read_by_their_prefix_in_any_case() {
        let entropy = [0xa5; 16];
        let phrase = encode(&entropy);
        let sloppy: Vec<String> = phrase
            .split(' ')
            .map(|word| format!("{}xyz\n", prefix(word).to_uppercase()))
            .collect();
        assert_eq!(*decode(&sloppy.join("\t ")).unwrap(), entropy);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_words() {
        let phrase = encode(&[3; 16]);
        let words: Vec<&str> = phrase.split(' ').collect();
        assert_eq!(
            decode(&words[..12].join(" ")),
            Err(MnemonicError::WordCount(12))
        );
        assert_eq!(decode(""), Err(MnemonicError::WordCount(0)));
        let mut unknown = words.clone();
        unknown[4] = "qqq";
        assert_eq!(
            decode(&unknown.join(" ")),
            Err(MnemonicError::UnknownWord(5))
        );
        assert_eq!(
            decode(&["é"; 13].join(" ")),
            Err(MnemonicError::UnknownWord(1))
        );
        let wrong: Vec<&str> = (0..13)
            .map(|n| if n == 12 { "zoom" } else { words[n] })
            .collect();
        assert_eq!(decode(&wrong.join(" ")), Err(MnemonicError::Checksum));
        // 1625 + 1625 * 1626 + 1625 * 1626^2 needs more than 32 bits.
        let largest = ["zoom", "zones", "zombie"].repeat(4).join(" ");
        let checked = ["zoom", "zones", "zombie"]
            .iter()
            .filter_map(|last| decode(&format!("{largest} {last}")).err())
            .any(|error| error == MnemonicError::Triple(1));
        assert!(checked);
    }
}
