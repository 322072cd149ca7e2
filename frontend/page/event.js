// One event for buyers: what is left, the seat map as it changes, choosing, and the hold.
import * as api from './api.js';
import { SeatMap, Tickets } from './seatmap.js';
import { busy, count, field, form, h, money, notice, place, say, when, whenShort } from './ui.js';
import { t } from './words.js';

const CHOSEN_MAX = 100; // of one reservation
const DRAW_MS = 100; // between two drawings in a rush: a frame in which one seat of thousands changes costs as much as one with all
const LIVE = ['STATE_HELD', 'STATE_PARTIALLY_PAID'];

export function eventView(frame, id) {
  const tickets = new Tickets();
  const chosen = new Map(Object.entries(kept(id))); // ticket id -> where it is, for when it is taken
  const own = new Set();
  let event = null;
  let map = null;
  let drawing = false;
  let drawn = 0; // when
  let closed = false;
  let opening;

  const head = h('div', { class: 'event-head' }, h('h1', {}, '…'));
  const link = h('div', { class: 'link', role: 'status' });
  const holds = h('div', {});
  const trouble = h('div', {});
  const stage = h('div', { class: 'stage-area' });
  const panel = h('aside', { class: 'panel', 'aria-label': t('panel') });
  const sections = h('ul', { class: 'sections' });
  const cart = h('div', { class: 'cart' });
  const best = h('div', { class: 'best' });
  panel.append(cart, best, h('div', { class: 'legend card' }, h('h2', {}, t('legend')),
    h('ul', {}, ['free', 'chosen', 'own', 'held', 'sold'].map((kind) => h('li', {}, h('i', { class: kind }), t(`seat.${kind}`)))), sections));
  const element = h('div', { class: 'sale' }, head, link, holds, trouble, h('div', { class: 'columns' }, stage, panel));

  async function load() {
    try {
      ({ event } = await api.request('GET', `/v1/events/${id}`, null, {}));
    } catch (error) {
      if (closed) return;
      head.replaceChildren(h('h1', {}, t('error.title')));
      trouble.replaceChildren(notice('bad', t('event.unread'), error.message,
        h('button', { type: 'button', class: 'second', onclick: load }, t('again'))));
      return;
    }
    if (closed) return;
    if (!asking) trouble.replaceChildren();
    frame.title(event.name);
    drawHead();
    stop = api.watch(`/v1/events/${id}/tickets:watch`, { message: take, link: linked });
    refreshHolds();
  }

  let stop = () => {};

  function linked(state, error) {
    link.replaceChildren(...(state === 'lost' ? [t('link.lost')] : state === 'refused' ? [error.message] : []));
    if (state === 'lost' && link.dataset.state !== 'lost') say(t('link.lost'));
    if (state === 'live' && link.dataset.state === 'lost') say(t('link.back'));
    link.dataset.state = state;
    if (state === 'live') link.replaceChildren();
  }

  function take(message) {
    tickets.take(message);
    if (tickets.complete && !drawing) {
      drawing = true;
      setTimeout(() => requestAnimationFrame(draw), drawn + DRAW_MS - performance.now());
    }
  }

  // The first change is shown at once, those of a rush together.
  function draw() {
    drawing = false;
    drawn = performance.now();
    if (closed) return;
    const seated = tickets.all.size && [...tickets.sections.values()].some((section) => section.seated);
    if (tickets.grown) {
      tickets.grown = false;
      tickets.fresh.clear();
      if (seated && !map) {
        map = new SeatMap({ tickets, currency: event.currency, chosen, own, choose });
        map.svg.setAttribute('aria-busy', 'true');
        stage.replaceChildren(map.element);
      }
      element.classList.toggle('no-map', !seated);
      map?.build();
      drawBest();
      if (!tickets.all.size) stage.replaceChildren(notice('info', t('event.soon')));
    } else map?.update();
    dropTaken();
    drawSections();
    element.dataset.applied = tickets.applied;
  }

  function drawHead() {
    head.replaceChildren(h('h1', {}, event.name),
      h('p', { class: 'quiet' }, [event.start_time && when(event.start_time), event.venue].filter(Boolean).join(' · ')),
      event.max_tickets_per_buyer ? h('p', { class: 'quiet' }, t('event.limit', { n: event.max_tickets_per_buyer })) : '');
    const opens = event.sale_start_time ? Date.parse(event.sale_start_time) - api.now() : 0;
    if (event.state === 'STATE_CANCELLED') head.append(notice('bad', t('event.cancelled'), t('event.cancelled.text')));
    else if (event.state === 'STATE_CLOSED' || isOver()) head.append(notice('info', t('event.closed'), t('event.closed.text')));
    else if (opens > 0) {
      head.append(notice('info', t('event.opens', { time: whenShort(event.sale_start_time) })));
      clearTimeout(opening);
      if (opens < 86_400_000) opening = setTimeout(() => { drawHead(); drawCart(); drawBest(); }, opens + 500);
    }
    drawCart();
  }

  const isOver = () => Boolean(event.sale_end_time) && Date.parse(event.sale_end_time) <= api.now();
  const sells = () => event.state === 'STATE_OPEN' && !isOver() && !(event.sale_start_time && Date.parse(event.sale_start_time) > api.now());

  function drawSections() {
    sections.replaceChildren(...[...tickets.sections.values()].map((section) => h('li', {},
      h('span', {}, section.name), h('span', { class: 'price' }, money(section.least, event.currency)),
      h('span', { class: 'quiet' }, section.free ? t('event.left', { n: section.free, number: count(section.free) }) : t('event.none.left')))));
    for (const option of best.querySelectorAll('option')) option.textContent = sectionText(tickets.sections.get(option.value));
  }

  const sectionText = (section) => `${section.name} · ${money(section.least, event.currency)} · ${section.free ? t('event.left', { n: section.free, number: count(section.free) }) : t('event.none.left')}`;

  // --- choosing seats

  const most = () => Math.min(CHOSEN_MAX, event.max_tickets_per_buyer || CHOSEN_MAX);

  function choose(ticket) {
    if (chosen.has(ticket.id)) chosen.delete(ticket.id);
    else if (own.has(ticket.id)) say(t('seat.own'));
    else if (ticket.state !== 'free') say(t(`seat.${ticket.state}`), true);
    else if (chosen.size >= most()) {
      trouble.replaceChildren(notice('info', t('chosen.most', { n: most() })));
    } else chosen.set(ticket.id, place(ticket));
    keep(id, chosen);
    map?.repaint(ticket.id);
    drawCart();
  }

  // What somebody else has taken meanwhile is no longer chosen.
  function dropTaken() {
    if (asking) return; // it may be this buyer's own hold
    const lost = [];
    for (const [ticketId, where] of chosen) {
      const ticket = tickets.all.get(ticketId);
      if (ticket && ticket.state === 'free') continue;
      chosen.delete(ticketId);
      if (!own.has(ticketId)) lost.push(where);
      map?.repaint(ticketId);
    }
    if (!lost.length) return;
    keep(id, chosen);
    drawCart();
    say(t('chosen.lost', { n: lost.length, places: lost.join(', ') }), true);
    trouble.replaceChildren(notice('info', t('chosen.lost', { n: lost.length, places: lost.join(', ') })));
  }

  function drawCart() {
    if (!event) return;
    const seats = [...chosen.keys()].map((one) => tickets.all.get(one)).filter(Boolean);
    const total = seats.reduce((sum, seat) => sum + seat.price, 0);
    cart.hidden = !map && !seats.length;
    cart.replaceChildren(h('h2', {}, t('cart.title')),
      seats.length
        ? h('ul', { class: 'chosen-list' }, seats.map((seat) => h('li', {}, h('span', {}, place(seat)), h('span', { class: 'price' }, money(seat.price, event.currency)),
          h('button', { type: 'button', class: 'plain', 'aria-label': t('cart.remove', { place: place(seat) }), onclick: () => choose(seat) }, '✕'))))
        : h('p', { class: 'quiet' }, t('cart.empty')));
    if (seats.length) {
      const button = h('button', { type: 'button', class: 'wide main', disabled: !sells(), onclick: () => busy(button, trouble, () => hold({ ticket_ids: seats.map((seat) => seat.id) })) },
        h('span', {}, t('cart.hold', { n: seats.length })), h('b', {}, money(total, event.currency)));
      cart.append(button);
    }
    cart.classList.toggle('full', seats.length > 0);
    cart.classList.add('card');
  }

  function drawBest() {
    if (!event || !tickets.sections.size) return best.replaceChildren();
    const first = [...tickets.sections.values()].find((section) => section.free) ?? [...tickets.sections.values()][0];
    const before = best.querySelector('select')?.value ?? first.name;
    const number = h('input', { type: 'number', min: 1, max: most(), value: best.querySelector('input')?.value ?? 2, required: true, inputmode: 'numeric' });
    const section = h('select', {}, [...tickets.sections.values()].map((one) => h('option', { value: one.name, ...(one.name === before && { selected: true }) }, sectionText(one))));
    const step = (by) => { number.value = Math.min(most(), Math.max(1, (Number(number.value) || 1) + by)); };
    best.className = 'best card';
    best.replaceChildren(h('h2', {}, t(map ? 'best.title' : 'best.title.general')), h('p', { class: 'quiet' }, t(map ? 'best.text' : 'best.text.general')),
      form({}, () => hold({ best_available: { section: section.value, quantity: Number(number.value) } }),
        field(t('best.section'), section),
        field(t('best.number'), h('span', { class: 'stepper' })),
        h('button', { class: map ? 'wide second' : 'wide main', disabled: !sells() }, t(map ? 'best.hold' : 'best.hold.general'))));
    const stepper = best.querySelector('.stepper');
    const label = best.querySelector(`label[for="${stepper.id}"]`);
    number.id = `${stepper.id}n`;
    label.setAttribute('for', number.id);
    stepper.append(h('button', { type: 'button', class: 'round', 'aria-label': t('best.fewer'), onclick: () => step(-1) }, '−'), number,
      h('button', { type: 'button', class: 'round', 'aria-label': t('best.more'), onclick: () => step(1) }, '+'));
  }

  // --- holding

  let asking = false;

  async function hold(what) {
    if (!asking && (await frame.signedIn('BUYER'))) await outcome(api.reserve({ event_id: id, ...what }, { event_id: id }));
  }

  // After a reload, or when another tab asks: the same request again.
  function goOn() {
    const [intent] = api.intents('reserve', (one) => one.about.event_id === id);
    if (intent && !asking) outcome(intent).catch((error) => trouble.replaceChildren(notice('bad', error.title, error.message)));
  }

  async function outcome(intent) {
    asking = true;
    trouble.replaceChildren(notice('info', t('hold.asking')));
    say(t('hold.asking'));
    try {
      const { reservation } = await api.settle(intent, () => trouble.replaceChildren(notice('info', t('hold.asking'), t('hold.patience'))));
      if (closed) return;
      if (reservation.state === 'STATE_REJECTED') {
        const text = t.known(`reason.${reservation.reject_reason}`) ?? reservation.reject_reason;
        trouble.replaceChildren(notice('bad', t('hold.refused'), text));
        trouble.scrollIntoView({ block: 'nearest' });
      } else {
        chosen.clear();
        keep(id, chosen);
        frame.go(`#/order/${reservation.reservation_id}`);
      }
    } finally {
      asking = false;
      if (!closed && event) draw();
    }
  }

  async function refreshHolds() {
    const who = api.session('BUYER');
    own.clear();
    if (!who) return holds.replaceChildren();
    try {
      const query = new URLSearchParams({ buyer_id: who.name, event_id: id });
      const page = await api.request('GET', `/v1/reservations?${query}`, null, { role: 'BUYER' });
      if (closed) return null;
      const live = page.reservations.filter((one) => LIVE.includes(one.state));
      for (const one of live) for (const ticket of one.tickets) own.add(ticket.ticket_id);
      for (const ticketId of own) map?.repaint(ticketId);
      holds.replaceChildren(...live.map((one) => notice('good', t('hold.yours', { n: one.tickets.length }), '',
        h('a', { class: 'button', href: `#/order/${one.reservation_id}` }, t('hold.pay', { amount: money(one.total_minor - one.paid_minor, one.currency) })))));
    } catch { /* the hold itself is safe; its page shows it */ }
    return null;
  }

  const otherTab = (stored) => { if (stored.key?.startsWith('intent.')) setTimeout(refreshHolds, 200); };
  addEventListener('storage', otherTab);
  goOn(); // at once: its answer may come before the event does
  load();
  return {
    element,
    session: () => { refreshHolds(); goOn(); },
    close() {
      closed = true;
      clearTimeout(opening);
      removeEventListener('storage', otherTab);
      stop();
      map?.close();
    },
  };
}

// Which seats somebody was choosing, in this tab.
function kept(id) {
  try {
    return JSON.parse(sessionStorage.getItem(`chosen.${id}`)) ?? {};
  } catch {
    return {};
  }
}

function keep(id, chosen) {
  sessionStorage.setItem(`chosen.${id}`, JSON.stringify(Object.fromEntries(chosen)));
}
