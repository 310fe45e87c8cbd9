use super::*;
use alloc::vec::Vec;
use proptest::prelude::*;

fn all() -> Vec<Packet> {
    let hello = Hello {
        versions: (1, 3),
        volume: VolumeId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        session: SessionId(0x1112_1314_1516_1718_191a_1b1c_1d1e_1f10),
        peer: None,
        epoch: 7,
        acked: 8,
    };
    alloc::vec![
        Packet::Hello(hello),
        Packet::Hello(Hello { peer: Some(SessionId(5)), ..hello }),
        Packet::Welcome { version: 1, session: SessionId(6), acked: 9 },
        Packet::Refuse(Refusal::Fenced),
        Packet::Message { sequence: 10, acked: 11, payload: Bytes::from_static(b"payload") },
        Packet::Message { sequence: 11, acked: 11, payload: Bytes::new() },
        Packet::Skip { next: 12, acked: 13 },
        Packet::Alive { acked: 14 },
    ]
}

fn bytes(packet: &Packet) -> Vec<u8> {
    packet.encode().concat()
}

fn decode(bytes: &[u8]) -> Result<Option<Packet>, PacketError> {
    let mut decoder = Decoder::default();
    decoder.handle_bytes(bytes);
    decoder.poll_packet()
}

/// Golden: these bytes were sent once, and are understood for ever.
#[test]
fn packets_keep_their_bytes() {
    let golden = include_str!("../../../tests/golden/packets_v1.hex");
    let lines: Vec<&str> = golden.lines().collect();
    assert_eq!(lines.len(), all().len());
    for (line, packet) in lines.iter().zip(all()) {
        let encoded: alloc::string::String =
            bytes(&packet).iter().map(|b| alloc::format!("{b:02x}")).collect();
        assert_eq!(*line, encoded, "{packet:?}");
        assert_eq!(bytes(&packet).len(), packet.wire_len());
        assert_eq!(decode(&bytes(&packet)), Ok(Some(packet)));
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for packet in all() {
        let good = bytes(&packet);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit} of {packet:?}");
        }
    }
}

#[test]
fn a_head_with_a_length_above_the_limit_asks_for_no_memory() {
    for (kind, len) in [(MESSAGE, PEER_MESSAGE_MAX as u32 + 1), (MESSAGE, u32::MAX), (ALIVE, 1)] {
        let mut head = encode_head(kind, 1, 0, &[]);
        head[8..12].copy_from_slice(&len.to_le_bytes());
        let sum = head_sum(&head);
        head[12..16].copy_from_slice(&sum.to_le_bytes());
        let mut decoder = Decoder::default();
        decoder.handle_bytes(&head);
        assert_eq!(decoder.poll_packet(), Err(PacketError::Length));
        assert!(decoder.held.capacity() <= 2 * ROOM, "{} bytes", decoder.held.capacity());
    }
}

#[test]
fn a_decoder_that_failed_stays_failed() {
    let mut decoder = Decoder::default();
    decoder.handle_bytes(&[0; HEAD_LEN]);
    assert_eq!(decoder.poll_packet(), Err(PacketError::NotAPacket));
    decoder.handle_bytes(&bytes(&Packet::Alive { acked: 0 }));
    assert_eq!(decoder.poll_packet(), Err(PacketError::NotAPacket));
}

#[test]
fn fields_that_say_nothing_are_refused() {
    let hello = |edit: fn(&mut Hello)| {
        let Packet::Hello(mut hello) = all()[0].clone() else { unreachable!() };
        edit(&mut hello);
        decode(&bytes(&Packet::Hello(hello)))
    };
    assert_eq!(hello(|hello| hello.versions = (2, 1)), Err(PacketError::Senseless));
    assert_eq!(hello(|hello| hello.session = SessionId(0)), Err(PacketError::Senseless));
    let unknown = [&encode_head(REFUSE, 0, 0, &[9])[..], &[9]].concat();
    assert_eq!(decode(&unknown), Err(PacketError::Senseless));
    assert_eq!(decode(&encode_head(77, 0, 0, &[])), Err(PacketError::Unknown));
}

fn packet() -> impl Strategy<Value = Packet> {
    let payload = proptest::collection::vec(any::<u8>(), 0..600).prop_map(Bytes::from);
    let versions = (0u16..9, 0u16..9).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let hello = (versions, any::<u128>(), 1u128.., any::<u128>(), any::<u64>(), any::<u64>())
        .prop_map(|(versions, volume, session, peer, epoch, acked)| {
            let peer = Some(SessionId(peer)).filter(|peer| peer.0 != 0);
            let (volume, session) = (VolumeId(volume), SessionId(session));
            Packet::Hello(Hello { versions, volume, session, peer, epoch, acked })
        });
    prop_oneof![
        hello,
        (any::<u16>(), any::<u128>(), any::<u64>()).prop_map(|(version, session, acked)| {
            Packet::Welcome { version, session: SessionId(session), acked }
        }),
        (0..Refusal::ALL.len()).prop_map(|n| Packet::Refuse(Refusal::ALL[n])),
        (any::<u64>(), any::<u64>(), payload).prop_map(|(sequence, acked, payload)| {
            Packet::Message { sequence, acked, payload }
        }),
        (any::<u64>(), any::<u64>()).prop_map(|(next, acked)| Packet::Skip { next, acked }),
        any::<u64>().prop_map(|acked| Packet::Alive { acked }),
    ]
}

proptest! {
    #[test]
    fn packets_come_back_whatever_the_pieces(
        packets in proptest::collection::vec(packet(), 0..12),
        cuts in proptest::collection::vec(1usize..700, 1..40),
    ) {
        let stream: Vec<u8> = packets.iter().flat_map(bytes).collect();
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            let (piece, tail) = rest.split_at((*cut).min(rest.len()));
            decoder.handle_bytes(piece);
            while let Some(packet) = decoder.poll_packet().unwrap() {
                found.push(packet);
            }
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(!decoder.is_amid());
        prop_assert_eq!(found, packets);
    }

    /// After a damaged byte nothing is believed but what came before it.
    #[test]
    fn nothing_behind_damage_is_believed(
        packets in proptest::collection::vec(packet(), 1..8),
        at in any::<prop::sample::Index>(),
        change in 1u8..,
    ) {
        let mut stream: Vec<u8> = packets.iter().flat_map(bytes).collect();
        let at = at.index(stream.len());
        stream[at] ^= change;
        let mut decoder = Decoder::default();
        decoder.handle_bytes(&stream);
        let mut begin = 0;
        let mut found = packets.iter();
        let end = loop {
            match decoder.poll_packet() {
                Ok(Some(packet)) => {
                    prop_assert_eq!(Some(&packet), found.next());
                    begin += packet.wire_len();
                }
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        prop_assert!(end, "damage at {} went unnoticed", at);
        prop_assert!(begin <= at);
    }

    #[test]
    fn noise_never_panics_and_holds_little(noise in proptest::collection::vec(any::<u8>(), 0..4000), magic: bool) {
        let mut noise = noise;
        if magic && noise.len() > 8 {
            noise[..4].copy_from_slice(&MAGIC);
            noise[4] = FORMAT;
        }
        let mut decoder = Decoder::default();
        for piece in noise.chunks(97) {
            decoder.handle_bytes(piece);
            while let Ok(Some(_)) = decoder.poll_packet() {}
        }
        prop_assert!(decoder.held.capacity() <= 4 * ROOM);
    }
}
