// What is known of an event's tickets, and its seats as a map: SVG, one element for each seat, drawn in small slices.
import { h, svg, money, place, say } from './ui.js';
import { t } from './words.js';

const PITCH = 10; // of seats, in the map's own units
const SEAT = 8;
const LABEL = 14; // for the row's name
const SEAT_PX_MAX = 34;
const TAP_PX_MIN = 18; // below that a finger cannot choose: the first tap comes nearer
const SLICE_MS = 8;
const SLICE_SEATS = 20; // after which the clock is looked at
const SHOWN_SEATS = 500; // at a time: each time the browser paints the whole map again
const NUMBERED_MAX = 600; // seats that show their numbers
const DRAWN_MAX = 20_000; // beyond that a map is of no use, and slow
const AISLES_MAX = 2; // so many times as wide as its seats may a row be for its gaps to be drawn
const STATES = { STATE_AVAILABLE: 'free', STATE_HELD: 'held', STATE_SOLD: 'sold', STATE_WITHDRAWN: 'gone' };

// The tickets of an event, by id. Of two messages about one the higher version holds.
export class Tickets {
  constructor() {
    this.all = new Map();
    this.sections = new Map(); // name -> {name, free, total, price: [least, most], seated}
    this.counts = { free: 0, held: 0, sold: 0, gone: 0 };
    this.revenue = 0;
    this.complete = false;
    this.fresh = new Set(); // changed since they were last drawn
    this.grown = false;
    this.applied = 0;
  }

  take(message) {
    for (const told of message.tickets) {
      const version = Number(told.version);
      const known = this.all.get(told.ticket_id);
      if (known && known.version >= version) continue;
      const state = STATES[told.state] ?? 'gone';
      if (known) this.count(known, -1);
      const ticket = known ?? { id: told.ticket_id, section: told.section, row: told.row, seat: told.seat };
      Object.assign(ticket, { price: Number(told.price_minor), state, version });
      if (known) this.applied++;
      else this.all.set(ticket.id, ticket);
      this.count(ticket, 1);
      this.grown ||= !known;
      this.fresh.add(ticket);
    }
    this.complete ||= message.snapshot_complete;
  }

  count(ticket, by) {
    this.counts[ticket.state] += by;
    if (ticket.state === 'sold') this.revenue += by * ticket.price;
    let section = this.sections.get(ticket.section);
    if (!section) {
      section = { name: ticket.section, free: 0, total: 0, least: Infinity, most: 0, seated: false };
      this.sections.set(ticket.section, section);
    }
    if (ticket.state === 'free') section.free += by;
    if (ticket.state !== 'gone') section.total += by;
    section.least = Math.min(section.least, ticket.price);
    section.most = Math.max(section.most, ticket.price);
    section.seated ||= ticket.row !== '';
  }

  get seated() {
    return [...this.all.values()].filter((ticket) => ticket.row !== '');
  }
}

// Sections below one another, their rows and seats in natural order, with places in the map's units.
function arrange(seats) {
  const natural = new Intl.Collator('en', { numeric: true }).compare;
  const sections = new Map();
  for (const seat of seats) {
    if (!sections.has(seat.section)) sections.set(seat.section, new Map());
    const rows = sections.get(seat.section);
    if (!rows.has(seat.row)) rows.set(seat.row, []);
    rows.get(seat.row).push(seat);
  }
  return [...sections].map(([name, byRow]) => {
    const rows = [...byRow].sort(([one], [other]) => natural(one, other)).map(([row, inRow]) => {
      inRow.sort((one, other) => natural(one.seat, other.seat));
      return { row, seats: inRow };
    });
    const numbers = rows.flatMap(({ seats: inRow }) => inRow.map((seat) => (/^\d{1,5}$/.test(seat.seat) ? Number(seat.seat) : NaN)));
    const least = Math.min(...numbers);
    const widest = Math.max(...rows.map((row) => row.seats.length));
    // Numbers that leave some out show where the aisles are; NaN compares as false.
    const numbered = Math.max(...numbers) - least < widest * AISLES_MAX;
    let width = 0;
    for (const { seats: inRow } of rows) {
      inRow.forEach((seat, index) => {
        seat.x = LABEL + PITCH * (numbered ? Number(seat.seat) - least : index);
        width = Math.max(width, seat.x + PITCH);
      });
    }
    return { name, rows, width };
  });
}

export class SeatMap {
  // chosen: the ids of the seats that were chosen; choose(ticket) is told which seat was meant; own: ids held by this buyer.
  constructor({ tickets, currency, chosen, own, choose }) {
    Object.assign(this, { tickets, currency, chosen, own, choose });
    this.zoom = 1;
    this.cells = new Map(); // ticket id -> its element
    this.rows = []; // of all sections, for the arrow keys
    this.svg = svg('svg', { role: 'grid', 'aria-label': t('map.label'), 'aria-multiselectable': 'true', class: 'seats' });
    this.scroller = h('div', { class: 'scroller' }, this.svg);
    this.readout = h('p', { class: 'readout', 'aria-hidden': 'true' }, t('map.hint'));
    const button = (name, label, press) => h('button', { type: 'button', class: 'round', 'aria-label': label, onclick: press }, name);
    this.element = h('div', { class: 'map' },
      h('div', { class: 'stage', 'aria-hidden': 'true' }, t('map.stage')), this.scroller,
      h('div', { class: 'map-foot' }, this.readout,
        button('−', t('map.out'), () => this.scale(this.zoom / 1.5)),
        button('+', t('map.in'), () => this.scale(this.zoom * 1.5)),
        button('⤢', t('map.fit'), () => this.scale(1))));
    this.svg.addEventListener('click', (event) => this.pressed(event));
    this.svg.addEventListener('keydown', (event) => this.key(event));
    this.svg.addEventListener('pointerover', (event) => this.read(event.target.ticket));
    this.svg.addEventListener('focusin', (event) => this.focused(event.target));
    this.pointers();
    this.size = new ResizeObserver(() => this.fit());
    this.size.observe(this.scroller);
  }

  close() {
    this.size.disconnect();
    this.closed = true;
  }

  // --- drawing

  // Builds the map a few seats at a time, so that nothing else has to wait.
  async build() {
    const turn = (this.turn = {}); // a later build ends this one
    const seats = this.tickets.seated;
    if (seats.length > DRAWN_MAX) {
      this.element.replaceChildren(h('p', { class: 'quiet' }, t('map.large')));
      return;
    }
    await frame();
    if (this.turn !== turn || this.closed) return;
    this.sections = arrange(seats);
    this.numbered = seats.length <= NUMBERED_MAX;
    this.width = Math.max(...this.sections.map((section) => section.width)) + LABEL;
    this.svg.replaceChildren();
    this.cells.clear();
    this.rows = [];
    this.fit();
    let begin = performance.now();
    let made = [];
    let many = 0;
    const shown = async () => {
      await frame();
      if (this.turn !== turn || this.closed) return false;
      for (const [group, row] of made) group.append(row);
      [made, many] = [[], 0];
      begin = performance.now();
      return true;
    };
    for (const section of this.sections) {
      section.group = svg('g', { role: 'rowgroup', 'aria-label': section.name });
      section.title = svg('text', { class: 'section', 'aria-hidden': 'true' }, this.titleOf(section));
      section.group.append(section.title);
      this.svg.append(section.group);
      this.stack();
      this.resize();
      for (const [index, { row, seats: inRow }] of section.rows.entries()) {
        const { element, add } = this.row(row, index * PITCH, (this.width - section.width) / 2);
        made.push([section.group, element]);
        for (let first = 0; first < inRow.length; first += SLICE_SEATS) {
          add(inRow.slice(first, first + SLICE_SEATS));
          if (performance.now() - begin < SLICE_MS) continue;
          await rest();
          begin = performance.now();
        }
        many += inRow.length;
        if (many >= SHOWN_SEATS && !(await shown())) return;
      }
    }
    if (!(await shown())) return;
    this.rows[0]?.cells[0]?.setAttribute('tabindex', '0');
    this.active = this.rows[0]?.cells[0];
    this.svg.setAttribute('aria-busy', 'false');
  }

  titleOf({ name }) {
    const { least, most } = this.tickets.sections.get(name);
    const price = money(least, this.currency);
    return `${name} · ${least === most ? price : `${price} – ${money(most, this.currency)}`}`;
  }

  // A new row, and what adds seats to it.
  row(row, y, left) {
    const made = svg('g', { role: 'row', 'aria-label': t('seat.row', { row }) },
      svg('text', { x: left + LABEL - 4, y: y + 6.5, class: 'row', role: 'rowheader' }, row));
    const blank = svg('rect', { y, width: SEAT, height: SEAT, rx: 2, role: 'gridcell', tabindex: -1 });
    const cells = [];
    const at = this.rows.push({ cells }) - 1;
    const add = (seats) => {
      const elements = [];
      for (const seat of seats.filter(({ state }) => state !== 'gone')) {
        const cell = blank.cloneNode();
        cell.setAttribute('x', left + seat.x);
        cell.ticket = seat;
        cell.row = at;
        this.cells.set(seat.id, cell);
        this.paint(cell);
        cells.push(cell);
        elements.push(cell);
        if (this.numbered) elements.push(svg('text', { x: left + seat.x + SEAT / 2, y: y + 5.3, class: 'number', 'aria-hidden': 'true' }, seat.seat));
      }
      made.append(...elements);
    };
    return { element: made, add };
  }

  paint(cell) {
    const { ticket } = cell;
    const kind = this.chosen.has(ticket.id) ? 'chosen' : this.own.has(ticket.id) && ticket.state === 'held' ? 'own' : ticket.state;
    if (cell.kind === kind) return;
    cell.kind = kind;
    cell.setAttribute('class', kind);
    cell.setAttribute('aria-selected', kind === 'chosen');
    cell.setAttribute('aria-label', this.words(ticket, kind));
  }

  words(ticket, kind) {
    return `${place(ticket)}, ${money(ticket.price, this.currency)}, ${t(`seat.${kind}`)}`;
  }

  // Shows what has changed since it was last called.
  update() {
    for (const ticket of this.tickets.fresh) {
      const cell = this.cells.get(ticket.id);
      if (cell) this.paint(cell);
    }
    this.tickets.fresh.clear();
    if (this.shown) this.read(this.shown);
  }

  repaint(id) {
    const cell = this.cells.get(id);
    if (cell) this.paint(cell);
  }

  // --- size and place

  fit() {
    if (!this.sections || !this.scroller.clientWidth) return;
    this.fitting = Math.min(this.scroller.clientWidth / this.width, SEAT_PX_MAX / PITCH);
    this.stack();
    this.resize();
  }

  // Puts sections below one another; their titles keep a readable size in a map of any width.
  stack() {
    const title = 16 / this.fitting;
    let y = 2;
    for (const section of this.sections) {
      section.title?.setAttribute('x', this.width / 2);
      section.title?.setAttribute('y', -title / 3);
      section.group?.setAttribute('transform', `translate(0 ${y + title})`);
      y += title * 1.4 + section.rows.length * PITCH;
    }
    this.height = y;
    this.svg.setAttribute('viewBox', `0 0 ${this.width} ${this.height}`);
  }

  resize() {
    for (const section of this.sections) section.title?.setAttribute('font-size', 14 / (this.fitting * this.zoom));
    this.svg.style.width = `${this.width * this.fitting * this.zoom}px`;
    this.svg.style.height = `${this.height * this.fitting * this.zoom}px`;
  }

  // Changes the zoom; what is at this place of the window stays there.
  scale(zoom, at = null) {
    const box = this.scroller.getBoundingClientRect();
    const x = at ? at.x - box.left : box.width / 2;
    const y = at ? at.y - box.top : box.height / 2;
    const before = this.zoom;
    this.zoom = Math.min(Math.max(zoom, 1), Math.max(1, SEAT_PX_MAX / (PITCH * this.fitting)));
    if (this.zoom === before) return;
    const by = this.zoom / before;
    const [left, top] = [(this.scroller.scrollLeft + x) * by - x, (this.scroller.scrollTop + y) * by - y];
    this.resize();
    this.scroller.scrollTo(left, top);
  }

  // A mouse drags the map, two fingers zoom it, ctrl and the wheel too; one finger scrolls it as anything else.
  pointers() {
    const down = new Map();
    let spread = 0;
    const apart = () => {
      const [one, other] = [...down.values()];
      return { by: Math.hypot(one.x - other.x, one.y - other.y), x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 };
    };
    this.scroller.addEventListener('pointerdown', (event) => {
      this.dragged = false;
      down.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (down.size === 2) spread = apart().by;
    });
    const move = (event) => {
      const from = down.get(event.pointerId);
      if (!from) return;
      const [x, y] = [event.clientX, event.clientY];
      if (down.size === 2) {
        down.set(event.pointerId, { x, y });
        const now = apart();
        this.dragged = true;
        this.scale(this.zoom * (now.by / spread), now);
        spread = now.by;
      } else if (event.pointerType === 'mouse' && (this.dragged || Math.hypot(x - from.x, y - from.y) > 5)) {
        this.dragged = true;
        this.scroller.scrollBy(from.x - x, from.y - y);
        down.set(event.pointerId, { x, y });
      }
    };
    const up = (event) => down.delete(event.pointerId);
    this.scroller.addEventListener('pointermove', move);
    for (const name of ['pointerup', 'pointercancel', 'pointerleave']) this.scroller.addEventListener(name, up);
    this.scroller.addEventListener('wheel', (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      this.scale(this.zoom * Math.exp(-event.deltaY / 200), { x: event.clientX, y: event.clientY });
    }, { passive: false });
  }

  // --- choosing

  pressed(event) {
    const { ticket } = event.target;
    if (!ticket || this.dragged) return;
    if (event.pointerType === 'touch' && PITCH * this.fitting * this.zoom < TAP_PX_MIN) {
      this.scale((TAP_PX_MIN * 1.4) / (PITCH * this.fitting), { x: event.clientX, y: event.clientY });
      return;
    }
    this.choose(ticket);
    this.read(ticket);
  }

  focused(cell) {
    if (!cell.ticket) return;
    this.active?.setAttribute('tabindex', '-1');
    cell.setAttribute('tabindex', '0');
    this.active = cell;
    this.read(cell.ticket);
  }

  read(ticket) {
    if (!ticket) return;
    this.shown = ticket;
    this.readout.textContent = this.words(ticket, this.cells.get(ticket.id)?.kind ?? ticket.state);
  }

  key(event) {
    const cell = event.target;
    if (!cell.ticket || event.ctrlKey || event.altKey || event.metaKey) return;
    const { cells } = this.rows[cell.row];
    const at = cells.indexOf(cell);
    let to = null;
    switch (event.key) {
      case 'ArrowRight': to = cells[at + 1]; break;
      case 'ArrowLeft': to = cells[at - 1]; break;
      case 'ArrowDown': to = this.nearest(cell, 1); break;
      case 'ArrowUp': to = this.nearest(cell, -1); break;
      case 'Home': to = cells[0]; break;
      case 'End': to = cells.at(-1); break;
      case '+': this.scale(this.zoom * 1.5); break;
      case '-': this.scale(this.zoom / 1.5); break;
      case 'Enter':
      case ' ':
        this.choose(cell.ticket);
        say(cell.getAttribute('aria-label'));
        break;
      default: return;
    }
    event.preventDefault();
    to?.focus();
  }

  nearest(cell, step) {
    let row = cell.row + step;
    while (this.rows[row] && !this.rows[row].cells.length) row += step;
    const x = Number(cell.getAttribute('x'));
    let found = null;
    for (const other of this.rows[row]?.cells ?? []) {
      if (!found || Math.abs(Number(other.getAttribute('x')) - x) < Math.abs(Number(found.getAttribute('x')) - x)) found = other;
    }
    return found;
  }
}

const rest = () => new Promise((resolve) => { setTimeout(resolve); });
const frame = () => new Promise((resolve) => { requestAnimationFrame(() => setTimeout(resolve)); });
