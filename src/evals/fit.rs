//! How much of something fits into a number of tokens.

/// The largest size from `min` to `max` of which `count` gives at most `room` tokens, where one more gives too many;
/// nothing when not even `min` fits. Counts grow about evenly with the size.
///
/// # Errors
/// Those of `count`.
pub(super) fn largest<E>(
    min: usize,
    max: usize,
    room: usize,
    mut count: impl FnMut(usize) -> Result<usize, E>,
) -> Result<Option<usize>, E> {
    let least = count(min)?;
    if least > room {
        return Ok(None);
    }
    // `fits` fits with `used` tokens, `above` does not (`max` + 1 is not allowed to) and has `over`, where that is known.
    let (mut fits, mut used) = (min, least);
    let (mut above, mut over) = (max + 1, None);
    for step in 1.. {
        if above - fits <= 1 {
            break;
        }
        let guess = match over {
            None if step == 1 => fits + 1 + fits / 2,
            // Beyond the largest that is known to fit, by the tokens that each had so far.
            None if used > least => fits + (room - used) * (fits - min) / (used - least),
            // Every third time the middle, so that uneven counts end the search, too.
            Some(over) if step % 3 != 0 => fits + (room - used) * (above - fits) / (over - used),
            _ => fits + (above - fits) / 2,
        };
        let guess = guess.clamp(fits + 1, above - 1);
        let tokens = count(guess)?;
        if tokens <= room {
            (fits, used) = (guess, tokens);
        } else {
            (above, over) = (guess, Some(tokens));
        }
    }
    Ok(Some(fits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn search(min: usize, max: usize, room: usize, each: usize) -> (Option<usize>, usize) {
        let mut calls = 0;
        let found = largest(min, max, room, |size| {
            calls += 1;
            // Uneven, as tokens are.
            Ok::<_, Infallible>(100 + size * each + size % 3)
        });
        (found.unwrap(), calls)
    }

    #[test]
    fn the_largest_that_fits_is_found_in_a_few_steps() {
        for room in [100, 101, 117, 255, 500, 4096, 131_072] {
            for each in [1, 7, 31] {
                let (found, calls) = search(1, 1_000_000, room, each);
                let expected = (1..room)
                    .take_while(|s| 100 + s * each + s % 3 <= room)
                    .last();
                let tokens = |size: usize| 100 + size * each + size % 3;
                match found {
                    None => assert_eq!(expected, None),
                    Some(size) => assert!(tokens(size) <= room && tokens(size + 1) > room),
                }
                assert!(calls <= 24, "{calls} counts for {room}, {each}");
            }
        }
    }

    #[test]
    fn no_more_than_there_is() {
        assert_eq!(search(2, 30, 100_000, 5).0, Some(30));
        assert_eq!(search(30, 30, 100_000, 5).0, Some(30));
        assert_eq!(search(30, 40, 200, 5).0, None);
    }
}
