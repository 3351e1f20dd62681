"""Words that tell what stands beside them: types of streets, parts of buildings, countries, peoples, forms of address, of companies.

General knowledge of the languages that are written in Latin letters, all in small letters. Nothing is computed here but the sets.
"""

from __future__ import annotations

from typing import Final


def word_set(text: str) -> frozenset[str]:
    """The words of `text`, which spaces and line ends divide."""
    return frozenset(text.split())


# "12 Crown Street": behind the name. Both written out and as post offices abbreviate them.
STREETS_BEHIND: Final = word_set(
    """street st str road rd avenue ave av lane ln drive dr boulevard blvd court ct crescent cres close place pl square sq squares terrace
    ter parade way highway hwy parkway pkwy circle cir alley mews grove gardens walk row hill trail trl path loop plaza turnpike esplanade
    quay wharf rise green park parks ridge view views valley village villages station stations extension extensions crossing crossings
    heights bypass causeway expressway expy freeway fwy junction keys key knoll knolls landing light lights loaf locks lodge mall manor
    meadow meadows mill mills mission motorway mount mountain mountains neck orchard oval overpass pass passage pike pine pines plain
    plains point points port ports prairie radial ramp ranch rapid rapids rest river roads route run shoal shoals shore shores skyway
    spring springs spur spurs stravenue stream streets summit throughway trace track trafficway tunnel underpass union unions via viaduct
    vista walks wall ways well wells island islands isle inlet harbor harbors haven glen glens gateway garden fort forks forges forest
    flats fields field ferry falls fall estate estates drives divide dam dale curve corner corners coves cove common commons coast club
    cliff cliffs centers center cape camp canyon burg brook brooks bridge branch bottom bluff bluffs bend beach bayou arcade annex
    flat crest course creek avenues boulevards lanes lateral
    marg nagar chowk ganj zila path"""
)
# Those that hardly mean anything else, so that no house number is needed with them.
STREETS_ALONE: Final = word_set(
    """street st str road rd avenue ave lane boulevard blvd crescent highway hwy parkway pkwy turnpike drive terrace square mews
    strasse straße"""
)
# "12 rue de la Paix", "ul. Polna 3": before the name.
STREETS_BEFORE: Final = word_set(
    """rue avenue boulevard chemin allée allee impasse quai cours via viale corso piazza piazzale vicolo strada largo contrada calle
    avenida avda av carrera camino paseo plaza ronda travesía travesia callejón pasaje rambla rúa carrer passeig rua travessa praça praca
    estrada alameda rodovia ul ulica aleja aleje plac osiedle ulice ulitsa nám náměstí naměstí námestie třída trida nábřeží
    bulevardul calea șoseaua aleea trg cesta odos leoforos jalan jl lorong faubourg sentier ruelle
    borgo canale rotonda stretto salita lungomare parque jardim largo beco ladeira rodovia setor quadra condomínio vale núcleo lote
    intrarea splaiul al pl os cité résidence domaine hameau esplanade urbanización urbanizacion pasadizo vial glorieta jirón cuesta"""
)
# "Puruntie 82", "Ringvej 144": the end of the name.
STREET_ENDINGS: Final = tuple(
    word_set(
        """straße strasse gasse weg platz allee ring ufer damm steig vej gade stræde plads torv gata gatan väg vägen gränd torget vegen vei
    veien gate tie katu kuja polku penger laan straat gracht plein kade dijk steeg singel hof utca utja körút götu vegur braut stígur
    stræti"""
    )
)
# Of these, what is an end of few other words, so that a number behind is enough.
STREET_ENDINGS_SURE: Final = tuple(
    word_set(
        """straße strasse gasse platz allee vej gade stræde gata gatan vägen vegen veien katu kuja polku laan straat gracht plein utca körút
    stígur stræti"""
    )
)
# Whole words of the same kind that stand behind the name.
STREETS_BEHIND_NUMBERED: Final = word_set(
    """u út útja utca utcája krt körút tér köz sor tere sgt plads plats puiestee tee tänav iela gatvė katu
    tie kuja polku gade vej gata gatan
    väg vägen veg vegen vei veien gate weg straße strasse allee platz laan straat plein sokak caddesi"""
)
UNITS: Final = word_set(
    """apt apartment apts suite ste unit flat room rm floor fl bldg building box postbox postfach apartado psc cmr lot dept department trlr
    penthouse stop block level piso appt appartement wohnung byt mieszkanie lok"""
)
# Numbered things that are no houses.
NUMBERED: Final = word_set("chapter section page pages version article figure table step part volume vol episode season class grade top")
MILITARY: Final = word_set("apo fpo dpo")
# Within the name of a place or a person, though small.
PARTICLES: Final = word_set(
    """de la le les du des dei degli delle dello dal del della dell di da do dos das das del van von der den ter ten zu zum zur
    am an im in auf bei ob op aan het
    y e i u und et of the upon under by sur sous en lès sul sulla nad pod na při v z el al bin ibn abu af av og och ja d l san st ste"""
)

COUNTRIES: Final = frozenset(
    name.strip()
    for name in """afghanistan, albania, algeria, andorra, angola, antigua and barbuda, argentina, armenia, australia, austria, azerbaijan,
    bahamas, bahrain, bangladesh, barbados, belarus, belgium, belize, benin, bhutan, bolivia, bosnia, bosnia and herzegovina, botswana,
    brazil, brunei, bulgaria, burkina faso, burundi, cambodia, cameroon, canada, cape verde, central african republic, chad, chile, china,
    colombia, comoros, congo, costa rica, croatia, cuba, cyprus, czechia, czech republic, denmark, djibouti, dominica, dominican republic,
    ecuador, egypt, el salvador, england, equatorial guinea, eritrea, estonia, eswatini, ethiopia, faroe islands, fiji, finland, france,
    gabon, gambia, georgia, germany, ghana, gibraltar, great britain, greece, greenland, grenada, guatemala, guinea, guinea-bissau, guyana,
    haiti, honduras, hong kong, hungary, iceland, india, indonesia, iran, iraq, ireland, israel, italy, ivory coast, jamaica, japan,
    jordan, kazakhstan, kenya, kiribati, kosovo, kuwait, kyrgyzstan, laos, latvia, lebanon, lesotho, liberia, libya, liechtenstein,
    lithuania, luxembourg, macao, madagascar, malawi, malaysia, maldives, mali, malta, mauritania, mauritius, mexico, micronesia, moldova,
    monaco, mongolia, montenegro, morocco, mozambique, myanmar, namibia, nauru, nepal, netherlands, the netherlands, new zealand,
    nicaragua, niger, nigeria, north korea, north macedonia, northern ireland, norway, oman, pakistan, palau, palestine, panama,
    papua new guinea, paraguay, peru, philippines, poland, portugal, puerto rico, qatar, romania, russia, rwanda, saint lucia, samoa,
    san marino, saudi arabia, scotland, senegal, serbia, seychelles, sierra leone, singapore, slovakia, slovenia, solomon islands,
    somalia, south africa, south korea, south sudan, spain, sri lanka, sudan, suriname, sweden, switzerland, syria, taiwan, tajikistan,
    tanzania, thailand, togo, tonga, trinidad and tobago, tunisia, turkey, turkmenistan, tuvalu, uganda, ukraine, united arab emirates,
    united kingdom, united states, united states of america, uk, usa, u.s.a., u.s., u.k., uae, uruguay, uzbekistan, vanuatu, venezuela,
    vietnam, wales, yemen, zambia, zimbabwe""".replace("\n", " ").split(",")
)
# Peoples by their endings would take in half the dictionary, so they are listed; plurals are made of them where they are asked for.
PEOPLES: Final = word_set(
    """afghan albanian algerian american andorran angolan arab argentine argentinian armenian asian australian austrian azerbaijani
    bahamian bahraini bangladeshi barbadian basque belarusian belgian belizean beninese bhutanese bolivian bosnian botswanan brazilian
    british briton bruneian bulgarian burkinabe burmese burundian cambodian cameroonian canadian catalan chadian chilean chinese colombian
    comoran congolese croat croatian cuban cypriot czech dane danish djiboutian dominican dutch ecuadorean ecuadorian egyptian emirati
    english englishman englishwoman eritrean estonian ethiopian european fijian filipino finn finnish french frenchman frenchwoman
    gabonese gambian georgian german ghanaian greek greenlander greenlandic grenadian guatemalan guinean guyanese haitian honduran
    hungarian icelander icelandic indian indonesian iranian iraqi irish irishman irishwoman israeli italian ivorian jamaican japanese
    jordanian kazakh kenyan korean kosovar kurd kurdish kuwaiti kyrgyz laotian lao latvian lebanese liberian libyan lithuanian
    luxembourger macedonian malagasy malawian malaysian maldivian malian maltese mauritanian mauritian mexican moldovan monegasque
    mongolian montenegrin moroccan mozambican namibian nepalese nepali nicaraguan nigerian nigerien norwegian omani pakistani palestinian
    panamanian paraguayan peruvian polish portuguese qatari roma romani romanian russian rwandan samoan saudi scot scottish scotsman
    senegalese serb serbian singaporean slovak slovakian slovene slovenian somali spaniard spanish sudanese surinamese swede swedish swiss
    syrian taiwanese tajik tanzanian thai tibetan togolese tongan trinidadian tunisian turk turkish turkmen ugandan ukrainian uruguayan
    uyghur uzbek venezuelan vietnamese welsh welshman yemeni yemenite zambian zimbabwean
    african caribbean scandinavian latino latina hispanic
    anglican atheist baptist buddhist catholic christian evangelical hindu hindus jain jew jewish lutheran methodist mormon muslim
    orthodox pagan pentecostal presbyterian protestant quaker shia shiite shii sikh sunni sunnite taoist zoroastrian
    conservative democrat liberal marxist republican socialist communist"""
)
# Common words besides; a people only where the text writes them with a capital, or after "the", "proud", "we are".
PEOPLES_ALSO_WORDS: Final = word_set("polish english french swiss finn conservative liberal orthodox roma turkey scot catholic")

TITLES: Final = word_set("mr mrs ms miss mx dr prof professor sir madam mister master rev reverend hon sgt capt lt col gen judge")
COMPANY_FORMS: Final = word_set(
    """inc incorporated ltd limited llc llp lp plc corp corporation co company gmbh ag kg ug sa sas sarl srl spa bv nv ab oy oyj as asa aps
    pty pte kk sro zrt kft holdings group partners associates bank bancorp university institute foundation association society college
    school hospital clinic technologies technology solutions systems software services consulting capital insurance airlines industries
    labs laboratories media networks energy ventures pharmaceuticals motors records press council committee ministry department agency
    federation union commission authority board times post news and sons & llc. inc. ltd. corp. co."""
)
MONTHS: Final = word_set(
    """january february march april may june july august september october november december jan feb mar apr jun jul aug sep sept oct nov
    dec"""
)
WEEKDAYS: Final = word_set("monday tuesday wednesday thursday friday saturday sunday")
# Written with a capital at the beginning of a sentence, and never a name there.
FUNCTION_WORDS: Final = word_set(
    """i i'm i've i'd i'll a an the this that these those my your his her its our their we you he she it they me us him them who whom whose
    what when where why how which is are was were be been am do does did don't doesn't didn't can could will would shall should may might
    must have has had not no yes and or but if then so because as at by for from in into of off on onto out over to up with without about
    after before during until while please thanks thank hello hi hey dear regards sincerely ok okay there here just also only very too
    more most some any all each every both few many much other another such same own than let's it's that's there's here's what's who's
    he's she's we're they're you're isn't aren't wasn't weren't won't can't cannot couldn't wouldn't shouldn't haven't hasn't hadn't
    maybe perhaps however although though since once now today tomorrow yesterday never always often again"""
)
