"""Who is who on IRC, whatever order things happen in."""

from __future__ import annotations

from rota.adapters.irc.lines import Line, Source, parse
from rota.adapters.irc.people import MAX_PEOPLE, PATIENCE_S, People, Person

ANN = Source("ann", "u", "h")


def people() -> People:
    return People(str.lower)


def tell(all_: People, *raw: str) -> None:
    for text in raw:
        line = parse(text.encode())
        assert line is not None
        all_.take(line, lambda room: room in ("#web", "#ops"))


def whois(nick: str = "ann", user: str = "u", host: str = "h", since: int = 7) -> list[str]:
    return [
        f":s 311 rota {nick} {user} {host} * :x",
        f":s 317 rota {nick} 3 {since} :idle",
        f":s 318 rota {nick} :end",
    ]


def identity(all_: People, person: Person, source: Source = ANN, now: float = 0.0) -> str | None:
    return all_.identity(person, Line("PRIVMSG", ("#web", "x"), source), now)


def test_a_session_is_asked_for_once_while_it_is_in_sight() -> None:
    all_ = people()
    person, ask = all_.meet(ANN, "#web", 0.0)
    assert [bytes(it) for it in ask] == [b"WHOIS ann ann\r\n"]
    assert identity(all_, person) is None
    tell(all_, *whois())
    assert identity(all_, person) == "session:ann!u@h/7"
    assert all_.meet(ANN, "#web", 1.0) == (person, [])
    assert all_.nick_of("session:ann!u@h/7") == "ann"
    tell(all_, ":ann!u@h PART #web")
    assert all_.nick_of("session:ann!u@h/7") == ""
    assert len(all_.meet(ANN, "#web", 2.0)[1]) == 1


def test_an_answer_about_the_next_one_is_not_believed() -> None:
    # ann writes and leaves; a thief from another host takes the nick before WHOIS is answered.
    all_ = people()
    person, _ = all_.meet(ANN, "#web", 0.0)
    tell(all_, *whois(user="thief", host="elsewhere"))
    assert identity(all_, person) == ""


def test_who_left_before_the_answer_is_nobody() -> None:
    all_ = people()
    person, _ = all_.meet(ANN, "#web", 0.0)
    tell(all_, ":ann!u@h QUIT :bye", *whois(since=9))
    assert identity(all_, person) == ""


def test_answers_belong_to_questions_in_their_order() -> None:
    # From the same host: first one session of ann's, then another, both asked about.
    all_ = people()
    first, _ = all_.meet(ANN, "#web", 0.0)
    tell(all_, ":ann!u@h QUIT :bye")
    second, _ = all_.meet(ANN, "#web", 0.1)
    tell(all_, *whois(since=7), *whois(since=8))
    assert identity(all_, first) == ""
    assert identity(all_, second) == "session:ann!u@h/8"


def test_who_is_not_there_is_nobody_whether_an_end_follows_or_not() -> None:
    for end in ([], [":s 318 rota ann :end"]):
        all_ = people()
        person, _ = all_.meet(ANN, "", 0.0)
        tell(all_, ":s 401 rota ann :No such nick", *end)
        assert identity(all_, person) == ""
        later, _ = all_.meet(ANN, "", 1.0)
        tell(all_, *whois())
        assert identity(all_, later) == "session:ann!u@h/7"


def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    all_ = people()
    person, _ = all_.meet(ANN, "#web", 0.0)
    assert identity(all_, person, now=PATIENCE_S - 1) is None
    assert identity(all_, person, now=PATIENCE_S + 1) == ""


def test_an_account_is_more_than_a_session() -> None:
    all_ = people()
    person, _ = all_.meet(ANN, "#web", 0.0)
    first, *rest = whois()
    tell(all_, first, ":s 330 rota ann Ann :is logged in as", *rest)
    assert identity(all_, person) == "account:ann"
    assert all_.nick_of("account:ANN") == "ann"
    tell(all_, ":ann!u@h ACCOUNT *")
    assert identity(all_, person) == "session:ann!u@h/7"


def test_a_tag_says_who_it_is_and_its_absence_that_nobody_is_logged_in() -> None:
    all_ = people()
    tagged = Line("PRIVMSG", ("#web", "x"), ANN, {"account": "Ann"})
    assert all_.identity(None, tagged, 0.0) == "account:ann"
    all_.has_account_tags = True
    person, _ = all_.meet(ANN, "#web", 0.0)
    first, *rest = whois()
    tell(all_, first, ":s 330 rota ann ann :is logged in as", *rest)
    assert identity(all_, person) == "session:ann!u@h/7"


def test_a_server_that_does_not_say_since_when_vouches_for_nobody() -> None:
    all_ = people()
    person, _ = all_.meet(ANN, "#web", 0.0)
    first, _, last = whois()
    tell(all_, first, last)
    assert identity(all_, person) == ""


def test_who_speaks_from_out_of_sight_is_known_for_that_message() -> None:
    all_ = people()
    person, _ = all_.meet(ANN, "", 0.0)
    tell(all_, *whois())
    assert identity(all_, person) == "session:ann!u@h/7"
    assert len(all_.meet(ANN, "", 1.0)[1]) == 1
    person, _ = all_.meet(ANN, "", 2.0)
    first, *rest = whois()
    tell(all_, first, ":s 319 rota ann :@#web +#other", *rest)
    assert person.rooms == {"#web"}


def test_so_many_are_remembered_and_no_more() -> None:
    all_ = people()
    for number in range(MAX_PEOPLE + 10):
        all_.meet(Source(f"n{number}", "u", "h"), "#web", 0.0)
    assert len(all_._people) == MAX_PEOPLE
