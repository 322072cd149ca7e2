// One order for its buyer: the hold with its time, paying at once or in parts, and what became of it. And all his orders.
import * as api from './api.js';
import { busy, confirmed, countdown, digits, field, form, h, money, notice, place, plain, say, toMinor, when, whenShort } from './ui.js';
import { t } from './words.js';

// The cards of the simulated processor; a real one's own field would give such a token.
const CARDS = ['pm_card_ok', 'pm_card_declined', 'pm_card_insufficient_funds', 'pm_card_slow', 'pm_card_flaky', 'pm_card_lost_reply'];
const LIVE = ['STATE_HELD', 'STATE_PARTIALLY_PAID'];

const events = new Map();
async function eventOf(id) {
  if (!events.has(id)) events.set(id, (await api.request('GET', `/v1/events/${id}`, null, {})).event);
  return events.get(id);
}

export function stateBadge(reservation) {
  const word = reservation.state.slice('STATE_'.length);
  return h('span', { class: `badge ${word.toLowerCase()}` }, t(`state.${word}`));
}

export function orderView(frame, id) {
  let order = null;
  let clock = null;
  let closed = false;
  let payKey = '';
  const title = h('h1', {}, t('order.title'));
  const badge = h('span', {});
  const about = h('p', { class: 'quiet' });
  const link = h('div', { class: 'link', role: 'status' });
  const state = h('div', { class: 'order-state' });
  const message = h('div', {});
  const list = h('ul', { class: 'seat-list' });
  const sums = h('dl', { class: 'sums' });
  const paying = h('div', { class: 'paying' });
  const history = h('div', { class: 'history' });
  const element = h('div', { class: 'order' }, h('div', { class: 'order-head' }, title, badge), about, link, state, message,
    h('div', { class: 'columns' },
      h('section', { class: 'card', 'aria-label': t('order.pay') }, paying),
      h('section', { class: 'card', 'aria-label': t('order.seats') }, h('h2', {}, t('order.seats')), list, sums, history)));
  frame.title(t('order.title'));

  const stop = api.watch(`/v1/reservations/${id}:watch`, {
    role: 'BUYER',
    message: ({ reservation }) => take(reservation),
    link(how, error) {
      link.replaceChildren(...(how === 'lost' ? [t('link.lost.order')] : how === 'refused' && order ? [error.message] : []));
      if (how === 'lost' && link.dataset.state !== 'lost') say(t('link.lost.order'));
      if (how === 'live' && link.dataset.state === 'lost') say(t('link.back'));
      link.dataset.state = how;
      if (how === 'refused' && !order) state.replaceChildren(notice('bad', error.title, error.message));
    },
  });

  function take(told) {
    if (closed || (order && Number(order.version) > Number(told.version))) return;
    const before = order;
    order = told;
    draw();
    readPayments();
    if (before && before.state !== order.state) say(`${t(`state.${order.state.slice(6)}`)}. ${state.textContent}`, true);
    if (!before) nameEvent();
  }

  async function nameEvent() {
    try {
      const event = await eventOf(order.event_id);
      title.textContent = event.name;
      frame.title(event.name);
      about.textContent = [event.start_time && when(event.start_time), event.venue].filter(Boolean).join(' · ');
    } catch { /* it has a title */ }
  }

  const due = () => order.total_minor - order.paid_minor - order.open_minor;
  const amount = (minor) => money(minor, order.currency);

  function draw() {
    badge.replaceChildren(stateBadge(order));
    list.replaceChildren(...order.tickets.map((ticket) => h('li', {}, h('span', {}, place(ticket)), h('span', { class: 'price' }, amount(ticket.price_minor)))));
    const rows = [[t('order.total'), order.total_minor], [t('order.paid'), order.paid_minor], [t('order.open'), order.open_minor],
      [t('order.due'), LIVE.includes(order.state) ? due() : 0], [t('order.refund.due'), order.refund_due_minor], [t('order.refunded'), order.refunded_minor]];
    sums.replaceChildren(...rows.filter(([, sum], index) => index === 0 || Number(sum)).flatMap(([name, sum]) => [h('dt', {}, name), h('dd', { class: 'price' }, amount(sum))]));
    drawState();
    drawPaying();
  }

  function drawState() {
    clock?.stop();
    clock = null;
    const back = Number(order.refund_due_minor) ? t('order.back.due', { amount: amount(order.refund_due_minor) })
      : Number(order.refunded_minor) ? t('order.back.done', { amount: amount(order.refunded_minor) }) : t('order.back.none');
    const again = h('a', { class: 'button', href: `#/event/${order.event_id}` }, t('order.again'));
    switch (order.state) {
      case 'STATE_HELD':
      case 'STATE_PARTIALLY_PAID':
        clock = countdown(Date.parse(order.release_time), api.now, () => {
          state.replaceChildren(notice('info', t('hold.over'), t('hold.over.text')));
          paying.classList.add('over');
        });
        paying.classList.remove('over');
        state.replaceChildren(h('div', { class: 'hold-time' }, clock.element, h('span', {}, t(order.state === 'STATE_HELD' ? 'hold.keep' : 'hold.keep.part', { amount: amount(due()) }))));
        break;
      case 'STATE_CONFIRMED':
        message.replaceChildren();
        state.replaceChildren(notice('good', t('order.done'), t('order.done.text', { number: id.slice(-8).toUpperCase() })));
        break;
      case 'STATE_EXPIRED':
        state.replaceChildren(notice('bad', t('order.expired'), Number(order.open_minor) ? t('order.expired.open') : back, again));
        break;
      case 'STATE_CANCELLED':
        message.replaceChildren();
        state.replaceChildren(notice('info', t('order.cancelled'), back, again));
        break;
      case 'STATE_REJECTED':
        state.replaceChildren(notice('bad', t('hold.refused'), t.known(`reason.${order.reject_reason}`) ?? order.reject_reason, again));
        break;
      default:
        state.replaceChildren(notice('info', t('hold.asking')));
    }
  }

  // --- paying

  const underWay = () => api.intents('pay', (one) => one.about.reservation_id === id);

  // Made anew only when there is something else to pay: somebody may be typing in it.
  function drawPaying() {
    if (!order) return;
    const key = [order.state, due(), underWay().length].join();
    if (key === payKey) return;
    payKey = key;
    const hadFocus = paying.contains(document.activeElement);
    fillPaying();
    if (!hadFocus) return;
    const heading = paying.querySelector('h2');
    heading.setAttribute('tabindex', '-1');
    heading.focus({ preventScroll: true });
  }

  function fillPaying() {
    if (order.state === 'STATE_CONFIRMED') {
      paying.replaceChildren(h('h2', {}, t('order.tickets')), h('ul', { class: 'stubs' }, order.tickets.map((ticket) => h('li', {},
        h('span', { class: 'stub-event' }, title.textContent), h('strong', {}, place(ticket)), h('span', { class: 'quiet' }, t('order.number', { number: id.slice(-8).toUpperCase() }))))));
      return;
    }
    if (!LIVE.includes(order.state)) {
      paying.replaceChildren(h('h2', {}, t('order.pay')), h('p', { class: 'quiet' }, t('order.nothing')));
      return;
    }
    if (underWay().length || due() <= 0) {
      paying.replaceChildren(h('h2', {}, t('order.pay')), h('p', { class: 'waiting', role: 'status' }, t('pay.asking')));
      return;
    }
    paying.replaceChildren(h('h2', {}, t('order.pay')), payForm());
  }

  let last = { card: CARDS[0], part: 'all' }; // what was chosen before

  function payForm() {
    const card = h('select', { required: true }, CARDS.map((name) => h('option', { value: name, ...(name === last.card && { selected: true }) }, t(`card.${name}`))));
    const kind = (value, text) => h('label', { class: 'choice' }, h('input', { type: 'radio', name: 'part', value, checked: value === last.part, onchange: choose }), h('span', {}, text));
    const part = h('input', { inputmode: 'decimal', value: plain(Math.ceil(due() / 2), order.currency), autocomplete: 'off' });
    const partField = field(t('pay.amount', { currency: order.currency }), part, t('pay.amount.hint', { least: amount(1), most: amount(due()) }));
    const button = h('button', { class: 'wide main' });
    const cancel = h('button', { type: 'button', class: 'second wide', onclick: () => giveBack(cancel) }, t('order.cancel'));
    const isPart = () => made.elements.part.value === 'part';
    const sum = () => (isPart() ? toMinor(part.value, order.currency) : due());
    function choose() {
      partField.hidden = !isPart();
      const right = sum() >= 1 && sum() <= due();
      part.setCustomValidity(!isPart() || right ? '' : t('pay.amount.hint', { least: amount(1), most: amount(due()) }));
      button.replaceChildren(h('span', {}, t('pay.button')), h('b', {}, right ? amount(sum()) : ''));
    }
    part.addEventListener('input', choose);
    const made = form({}, () => {
      last = { card: card.value, part: 'all' };
      outcome(api.pay(id, { amount_minor: String(sum()), payment_method: card.value }));
    }, field(t('pay.card'), card, t('pay.card.hint')),
    h('fieldset', {}, h('legend', {}, t('pay.how')), kind('all', t('pay.all', { amount: amount(due()) })), kind('part', t('pay.part'))),
    partField, button, cancel);
    choose();
    if (digits(order.currency) === 0) part.inputMode = 'numeric';
    return made;
  }

  async function outcome(intent) {
    drawPaying();
    say(t('pay.asking'));
    message.replaceChildren();
    try {
      const { payment, reservation } = await api.settle(intent, () => message.replaceChildren(notice('info', t('pay.asking'), t('hold.patience'))));
      if (closed) return;
      message.replaceChildren();
      if (reservation) take(reservation);
      if (payment.state === 'STATE_REJECTED') declined(payment);
      else if (payment.state !== 'STATE_APPROVED') message.replaceChildren(notice('bad', t('pay.late'), t('pay.late.text')));
      else if (order?.state !== 'STATE_CONFIRMED') message.replaceChildren(notice('good', t('pay.done', { amount: money(payment.amount_minor, payment.currency) })));
    } catch (error) {
      if (!closed) message.replaceChildren(notice('bad', error.title ?? t('error.title'), error.message));
    }
    if (closed || !order) return;
    drawPaying();
    readPayments();
  }

  function declined(payment) {
    const text = t.known(`reason.${payment.decline_reason}`) ?? payment.decline_reason;
    message.replaceChildren(notice('bad', t('pay.declined'), text, LIVE.includes(order?.state) ? h('p', {}, t('pay.declined.kept')) : ''));
    message.scrollIntoView({ block: 'nearest' });
  }

  async function giveBack(button) {
    const paid = Number(order.paid_minor);
    if (!(await confirmed(t('order.cancel'), paid ? t('order.cancel.paid', { amount: amount(paid) }) : t('order.cancel.text'), t('order.cancel.yes')))) return;
    await busy(button, message, async () => {
      const { reservation } = await api.settle(api.giveBack(id), () => message.replaceChildren(notice('info', t('hold.patience'))));
      if (!closed) take(reservation);
    });
  }

  let reading = 0;
  async function readPayments() {
    const turn = ++reading;
    try {
      const { payments } = await api.request('GET', `/v1/reservations/${id}/payments`, null, { role: 'BUYER' });
      if (closed || turn !== reading) return;
      history.replaceChildren(...(payments.length ? [h('h3', {}, t('order.payments')), h('ul', { class: 'payments' }, payments.map((payment) => h('li', {},
        h('span', {}, payment.create_time ? whenShort(payment.create_time) : ''),
        h('span', { class: 'price' }, Number(payment.amount_minor) ? amount(payment.amount_minor) : ''),
        h('span', { class: `badge ${payment.state.slice(6).toLowerCase()}` }, t(`payment.${payment.state.slice(6)}`)),
        payment.decline_reason && h('small', {}, t.known(`reason.${payment.decline_reason}`) ?? payment.decline_reason))))] : []));
    } catch { /* they are shown with the next change */ }
  }

  // After a reload: what was asked before is asked again, with the same request_id.
  function goOn() {
    for (const intent of underWay()) outcome(intent);
    for (const intent of api.intents('cancel', (one) => one.about.reservation_id === id)) api.settle(intent).then(({ reservation }) => take(reservation), () => {});
  }
  const otherTab = (stored) => { if (order && stored.key?.startsWith('intent.')) drawPaying(); };
  addEventListener('storage', otherTab);
  addEventListener('pageshow', drawLater);
  document.addEventListener('visibilitychange', drawLater);
  function drawLater() { if (order && !document.hidden) drawState(); } // timers rest while nobody looks
  queueMicrotask(goOn);
  return {
    element,
    close() {
      closed = true;
      clock?.stop();
      stop();
      removeEventListener('storage', otherTab);
      removeEventListener('pageshow', drawLater);
      document.removeEventListener('visibilitychange', drawLater);
    },
  };
}

export function ordersView(frame) {
  frame.title(t('nav.orders'));
  const list = h('ul', { class: 'events' });
  const problem = h('div', {});
  async function load() {
    try {
      const buyer = api.read('session.BUYER')?.name;
      const { reservations } = await api.request('GET', `/v1/reservations?${new URLSearchParams({ buyer_id: buyer, page_size: 100 })}`, null, { role: 'BUYER' });
      const shown = reservations.filter((one) => one.state !== 'STATE_REJECTED');
      await Promise.allSettled([...new Set(shown.map((one) => one.event_id))].map(eventOf));
      list.replaceChildren(...shown.map((one) => {
        const event = events.get(one.event_id);
        return h('li', {}, h('a', { class: 'card event', href: `#/order/${one.reservation_id}` },
          h('span', { class: 'about' }, h('strong', {}, event?.name ?? t('order.title')),
            h('span', { class: 'quiet' }, one.tickets.slice(0, 4).map(place).join(', ') + (one.tickets.length > 4 ? ' …' : ''))),
          h('span', { class: 'price' }, money(one.total_minor, one.currency)), stateBadge(one)));
      }));
      problem.replaceChildren(...(shown.length ? [] : [notice('info', t('orders.none'), '', h('a', { class: 'button', href: '#/' }, t('nav.events')))]));
    } catch (error) {
      problem.replaceChildren(notice('bad', error.title ?? t('error.title'), error.message));
    }
  }
  load();
  return { element: h('div', {}, h('h1', {}, t('nav.orders')), problem, list) };
}
