//! A strict walk over protobuf bytes: fields in order of appearance, nothing copied, every length
//! checked against what is there. Source: the protobuf wire format.

/// Why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// Bytes end inside a field.
    #[error("message is cut short")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("varint is too long")]
    Varint,
    /// A field number of 0, or an end-group or unknown wire type.
    #[error("illegal field tag")]
    Tag,
    /// A known field with another wire type than its own.
    #[error("field has the wrong wire type")]
    WireType,
    /// The decoded form would be out of proportion to the body.
    #[error("request decodes to more data than a request may hold")]
    TooLarge,
}

/// One field: its number and what follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    /// Field number.
    pub number: u32,
    value: FieldValue<'a>,
}

#[derive(Debug, Clone, Copy)]
enum FieldValue<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// The rest of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walker<'a> {
    bytes: &'a [u8],
}

impl<'a> Walker<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Bytes not walked yet: with the message's own slice it tells where a field began.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The next field, or `None` at the end of the message.
    #[inline]
    pub(crate) fn next_field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::Tag)?;
        if number == 0 || number > 0x1FFF_FFFF {
            return Err(WireError::Tag);
        }
        let value = match tag & 7 {
            0 => FieldValue::Varint(self.varint()?),
            1 => FieldValue::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                FieldValue::Bytes(self.take(len)?)
            }
            5 => {
                self.array::<4>()?;
                FieldValue::Fixed32
            }
            _ => return Err(WireError::Tag),
        };
        Ok(Some(Field { number, value }))
    }

    /// A varint.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        if let Some((&first, rest)) = self.bytes.split_first()
            && first < 0x80
        {
            self.bytes = rest;
            return Ok(u64::from(first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        if let &[low, high, ref rest @ ..] = self.bytes
            && high < 0x80
        {
            self.bytes = rest;
            return Ok(u64::from(low & 0x7F) | u64::from(high) << 7);
        }
        let mut value = 0u64;
        for (i, &byte) in self.bytes.iter().take(10).enumerate() {
            if i == 9 && byte > 1 {
                return Err(WireError::Varint);
            }
            value |= u64::from(byte & 0x7F) << (7 * i);
            if byte < 0x80 {
                self.bytes = &self.bytes[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.bytes.len() < 10 { WireError::Truncated } else { WireError::Varint })
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.bytes.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.bytes = rest;
        Ok(*head)
    }
}

impl<'a> Field<'a> {
    /// The content of a string, bytes, message or packed field.
    #[inline]
    pub(crate) fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            FieldValue::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::WireType),
        }
    }

    /// An embedded message.
    #[inline]
    pub(crate) fn message(&self) -> Result<Walker<'a>, WireError> {
        self.bytes().map(Walker::new)
    }

    /// A uint64, int64 (two's complement), or enum.
    #[inline]
    pub(crate) fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            FieldValue::Varint(value) => Ok(value),
            _ => Err(WireError::WireType),
        }
    }

    /// An int64.
    #[inline]
    pub(crate) fn int64(&self) -> Result<i64, WireError> {
        self.varint().map(|v| v as i64)
    }

    /// A uint32; as every protobuf decoder does, higher bits are cut off.
    #[inline]
    pub(crate) fn uint32(&self) -> Result<u32, WireError> {
        self.varint().map(|v| v as u32)
    }

    /// A sint32.
    pub(crate) fn sint32(&self) -> Result<i32, WireError> {
        self.uint32().map(|v| (v >> 1) as i32 ^ -((v & 1) as i32))
    }

    /// A double.
    #[inline]
    pub(crate) fn double(&self) -> Result<f64, WireError> {
        match self.value {
            FieldValue::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(WireError::WireType),
        }
    }

    /// Appends the doubles of a repeated field, packed or not.
    pub(crate) fn doubles(&self, out: &mut Vec<f64>) -> Result<(), WireError> {
        match self.value {
            FieldValue::Fixed64(bits) => out.push(f64::from_bits(bits)),
            FieldValue::Bytes(bytes) => {
                let (whole, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(WireError::Truncated);
                }
                out.extend(whole.iter().map(|b| f64::from_le_bytes(*b)));
            }
            _ => return Err(WireError::WireType),
        }
        Ok(())
    }

    /// Appends the sint64s of a repeated field, packed or not.
    pub(crate) fn sint64s(&self, out: &mut Vec<i64>) -> Result<(), WireError> {
        self.varints(|v| out.push((v >> 1) as i64 ^ -((v & 1) as i64)))
    }

    /// Appends the uint32s of a repeated field, packed or not.
    #[inline]
    pub(crate) fn uint32s(&self, out: &mut Vec<u32>) -> Result<(), WireError> {
        if let FieldValue::Bytes(bytes) = self.value {
            // One byte a number at least; references are small numbers, so this is hardly too much.
            out.reserve(bytes.len());
        }
        self.varints(|v| out.push(v as u32))
    }

    #[inline]
    fn varints(&self, mut push: impl FnMut(u64)) -> Result<(), WireError> {
        match self.value {
            FieldValue::Varint(value) => push(value),
            FieldValue::Bytes(bytes) => {
                let mut walker = Walker::new(bytes);
                while walker.remaining() > 0 {
                    push(walker.varint()?);
                }
            }
            _ => return Err(WireError::WireType),
        }
        Ok(())
    }
}
