//! Texts one after the other, without padding.

/// Inputs of the packed encoder's graph, kept between runs so that their memory is reused.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pub input_ids: Vec<i64>, // [tokens]
    /// `[tokens]`: each text begins at 0, by which the graph tells them apart.
    pub position_ids: Vec<i64>,
}

impl Packed {
    /// Replaces the content by some texts, of at least one token each.
    pub fn fill(&mut self, texts: &[&[u32]]) {
        self.input_ids.clear();
        self.position_ids.clear();
        for text in texts {
            self.input_ids.extend(text.iter().map(|id| i64::from(*id)));
            self.position_ids.extend((0..).take(text.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_follow_each_other_and_what_is_reused_does_not_show() {
        let mut packed = Packed::default();
        for _ in 0..2 {
            packed.fill(&[&[7, 8, 9], &[5]]);
            assert_eq!(packed.input_ids, [7, 8, 9, 5]);
            assert_eq!(packed.position_ids, [0, 1, 2, 0]);
        }
    }
}
