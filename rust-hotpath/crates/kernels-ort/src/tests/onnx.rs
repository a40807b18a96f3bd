//! As much of ONNX's format as the tests' graphs need. (`ort::editor` knows no foreign operators.)

use crate::VERSION;

/// A message of protobuf.
#[derive(Default, Clone)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value > 127 {
            self.0.push(value.to_le_bytes()[0] | 128);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn number(mut self, field: u64, value: usize) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn messages(self, field: u64, of: impl IntoIterator<Item = Message>) -> Self {
        of.into_iter().fold(self, |all, one| all.bytes(field, &one.0))
    }
}

/// Kinds of numbers.
pub(super) const FLOAT: usize = 1;
pub(super) const BYTE: usize = 2;
pub(super) const INT: usize = 6;
pub(super) const LONG: usize = 7;
pub(super) const HALF: usize = 10;

/// An input or output; of an axis without a size nothing is said.
pub(super) fn value(name: &str, kind: usize, axes: &[Option<usize>]) -> Message {
    let axes = axes.iter().map(|axis| axis.map_or_else(Message::default, |axis| Message::default().number(1, axis)));
    let tensor = Message::default().number(1, kind).messages(2, [Message::default().messages(1, axes)]);
    Message::default().bytes(1, name.as_bytes()).messages(2, [Message::default().messages(1, [tensor])])
}

/// A constant of one axis.
pub(super) fn constant(name: &str, kind: usize, length: usize, bytes: &[u8]) -> Message {
    Message::default().number(1, length).number(2, kind).bytes(8, name.as_bytes()).bytes(9, bytes)
}

pub(super) fn whole(name: &str, value: usize) -> Message {
    Message::default().bytes(1, name.as_bytes()).number(3, value).number(20, 2)
}

pub(super) fn real(name: &str, value: f32) -> Message {
    let mut message = Message::default().bytes(1, name.as_bytes()).number(20, 1);
    message.varint(2 << 3 | 5);
    message.0.extend(value.to_le_bytes());
    message
}

pub(super) fn node(domain: &str, kind: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<Message>) -> Message {
    let named = |message: Message, field, names: &[&str]| {
        names.iter().fold(message, |message, name| message.bytes(field, name.as_bytes()))
    };
    let ends = named(named(Message::default(), 1, inputs), 2, outputs);
    ends.bytes(4, kind.as_bytes()).messages(5, attributes).bytes(7, domain.as_bytes())
}

/// A model of ONNX's own operators, and of those of a domain in our version.
pub(super) fn model(domain: &str, nodes: Vec<Message>, constants: Vec<Message>, ends: [Vec<Message>; 2]) -> Vec<u8> {
    let [inputs, outputs] = ends;
    let graph = Message::default().messages(1, nodes).bytes(2, b"test").messages(5, constants);
    let graph = graph.messages(11, inputs).messages(12, outputs);
    let of_domain = (domain, VERSION as usize);
    let opsets =
        [("", 18), of_domain].map(|(name, version)| Message::default().bytes(1, name.as_bytes()).number(2, version));
    Message::default().number(1, 8).messages(7, [graph]).messages(8, opsets).0
}
