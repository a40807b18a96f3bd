//! Texts one after the other, without padding, and the indices that let attention see them as a grid.

/// Inputs of the packed encoder's graph, kept between runs so that their memory is reused.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pub input_ids: Vec<i64>,    // [tokens]
    pub position_ids: Vec<i64>, // [tokens]
    pub pad_index: Vec<i64>,    // [batch, longest]
    pub unpad_index: Vec<i64>,  // [tokens]
    pub seqlens_k: Vec<i32>,    // [batch]
    pub longest: usize,
}

impl Packed {
    /// Replaces the content by some texts, of at least one token each.
    pub fn fill(&mut self, texts: &[&[u32]]) {
        self.longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        self.input_ids.clear();
        self.position_ids.clear();
        self.unpad_index.clear();
        self.seqlens_k.clear();
        self.pad_index.clear();
        self.pad_index.resize(texts.len() * self.longest, 0);
        for (row, text) in texts.iter().enumerate() {
            for (position, id) in text.iter().enumerate() {
                let place = row * self.longest + position;
                self.pad_index[place] = index(self.input_ids.len());
                self.unpad_index.push(index(place));
                self.input_ids.push(i64::from(*id));
                self.position_ids.push(index(position));
            }
            self.seqlens_k.push(i32::try_from(text.len()).expect("a text is far shorter") - 1);
        }
    }
}

fn index(place: usize) -> i64 {
    i64::try_from(place).expect("a batch is far smaller")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_texts_of_different_length() {
        let mut packed = Packed::default();
        packed.fill(&[&[7, 8, 9], &[5]]);
        assert_eq!(packed.input_ids, [7, 8, 9, 5]);
        assert_eq!(packed.position_ids, [0, 1, 2, 0]);
        assert_eq!(packed.pad_index, [0, 1, 2, 3, 0, 0]);
        assert_eq!(packed.unpad_index, [0, 1, 2, 3]);
        assert_eq!(packed.seqlens_k, [2, 0]);
        assert_eq!(packed.longest, 3);
    }

    proptest! {
        #[test]
        fn unpadding_the_padded_grid_gives_the_tokens_back(
            texts in prop::collection::vec(prop::collection::vec(any::<u32>(), 1..20), 1..10),
            before in prop::collection::vec(prop::collection::vec(any::<u32>(), 1..20), 1..10),
        ) {
            let mut packed = Packed::default();
            packed.fill(&before.iter().map(Vec::as_slice).collect::<Vec<_>>()); // what is reused must not show
            packed.fill(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let place = |index: &i64| usize::try_from(*index).unwrap();
            let grid: Vec<i64> = packed.pad_index.iter().map(|from| packed.input_ids[place(from)]).collect();
            let back: Vec<i64> = packed.unpad_index.iter().map(|from| grid[place(from)]).collect();
            prop_assert_eq!(&back, &packed.input_ids);
            prop_assert_eq!(grid.len(), texts.len() * packed.longest);
            for (row, text) in texts.iter().enumerate() {
                let ids = text.iter().map(|id| i64::from(*id));
                prop_assert!(ids.eq(grid[row * packed.longest..][..text.len()].iter().copied()));
            }
        }
    }
}
